"""Networks, augmentation and temperature fits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from moodring.features.audio.window import SpeechFrontEnd
from moodring.features.spec import SpeechSpec
from moodring.train.calibration import fit_temperature, softmax
from moodring.train.data import augment_images as augment
from moodring.train.data.augment_mel import MelAugmenter
from moodring.train.data.augment_sound import SoundAugmenter, add_reverberation, colored_noise, limit_band, resample
from moodring.train.data.voices import run_front_end
from moodring.train.models.face import FaceNet
from moodring.train.models.speech import SpeechNet, build_ensemble
from moodring.train.recipe import FaceRecipe, SpeechRecipe, read_recipe
from moodring.types import AudioBlock

from pathlib import Path  # isort: skip

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "train"
PLAIN = (
    nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Linear, nn.Dropout, nn.MaxPool1d, nn.Identity, nn.Sequential,
    nn.ModuleList,
)  # fmt: skip


def test_ensemble_outputs_the_mean_of_its_members() -> None:
    torch.manual_seed(0)
    networks = [SpeechNet(members=[size]).eval() for size in ((8, 16), (16, 8))]
    for network in networks:  # as after training on different windows
        network.standardise.running_mean += 0.02 * torch.randn(42)
        network.standardise.running_var *= 1 + 0.02 * torch.randn(42)
    window = torch.randn(3, 300, 42)
    joined = build_ensemble(networks)
    assert joined(window)[0].shape == (3, 256)
    for index in (1, 2):  # logits, usable
        mean = torch.stack([network(window)[index] for network in networks]).mean(dim=0)
        torch.testing.assert_close(joined(window)[index], mean, atol=2e-3, rtol=0)
    again = SpeechNet(members=[(8, 16), (16, 8)])
    again.load_state_dict(joined.state_dict())


@pytest.mark.parametrize("net", [FaceNet(), SpeechNet(members=[(64, 112), (64, 108)])])
def test_networks_are_small_and_have_plain_layers_only(net: nn.Module) -> None:
    assert sum(parameter.numel() for parameter in net.parameters()) <= 500_000
    for module in net.modules():
        if not list(module.children()) and not isinstance(module, nn.ModuleList):
            assert isinstance(module, PLAIN)
        assert getattr(module, "groups", 1) == 1  # no depthwise convolutions


def test_network_outputs_have_the_documented_shapes() -> None:
    shapes = [tuple(out.shape) for out in FaceNet().eval()(torch.randn(2, 1, 48, 48))]
    assert shapes == [(2, 128), (2, 7), (2, 7), (2, 1)]
    shapes = [tuple(out.shape) for out in SpeechNet().eval()(torch.randn(2, 300, 42))]
    assert shapes == [(2, 128), (2, 8), (2, 1)]


def test_warp_faces_keeps_shape_and_dtype_and_follows_the_seed() -> None:
    recipe: FaceRecipe = read_recipe(CONFIGS / "face.yaml", "face")
    ramp = np.broadcast_to(np.arange(48, dtype=np.uint8) * 5, (32, 48, 48)).copy()
    out = augment.warp_faces(ramp, np.random.default_rng(0), recipe)
    assert out.shape == ramp.shape
    assert out.dtype == np.uint8
    rising = out.astype(int)[:, 20:28, 34:40].mean((1, 2)) > out.astype(int)[:, 20:28, 8:14].mean((1, 2))
    assert 0 < rising.sum() < 32  # some are flipped
    same = augment.warp_faces(ramp, np.random.default_rng(0), recipe)
    assert (same == out).all()


def test_shuffle_patches_keeps_the_pixel_values() -> None:
    faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48), dtype=np.uint8)
    out = augment.shuffle_patches(faces, np.random.default_rng(1))
    assert (np.sort(out.reshape(3, -1)) == np.sort(faces.reshape(3, -1))).all()
    assert (out != faces).any()


def test_mixup_keeps_targets_normalised() -> None:
    rng = np.random.default_rng(0)
    x, y = augment.apply_mixup((torch.randn(16, 1, 4, 4), torch.eye(8)[torch.arange(16) % 8]), rng, 0.3)
    assert x.shape == (16, 1, 4, 4)
    assert torch.allclose(y.sum(dim=1), torch.ones(16))
    assert (y.max(dim=1).values < 1).any()


def recipe_with(**changes: object) -> SpeechRecipe:
    return dataclasses.replace(read_recipe(CONFIGS / "speech.yaml", "speech"), **changes)


def test_nonspeech_windows_are_finite() -> None:
    augmenter, rng = SoundAugmenter(recipe_with(), SpeechSpec(), []), np.random.default_rng(0)
    mels = run_front_end([augmenter.nonspeech(rng) for _ in range(20)], SpeechSpec())[0]
    windows = MelAugmenter(recipe_with(), SpeechSpec()).windows([mel[:300] for mel in mels], rng)
    assert windows.shape == (20, 300, 42)
    assert windows.dtype == np.float32
    assert np.isfinite(windows).all()


@pytest.mark.parametrize("reduction", ["none", "wiener"])
def test_window_without_augmentation_equals_the_runtime_window(reduction: str) -> None:
    unchanged = dict.fromkeys(("speed", "tempo", "mel_shift", "mel_scale", "gain_db", "noise", "room", "band_limit"), 0.0)
    recipe, spec = recipe_with(**unchanged, masks=0), SpeechSpec(noise_reduction=reduction)
    augmenter = MelAugmenter(recipe, spec)
    augmenter._channel = lambda _rng: np.zeros(40, np.float32)
    rng = np.random.default_rng(0)
    sounds = [(0.1 * rng.standard_normal(count)).astype(np.float32) for count in (30_000, 48_240)]
    augmented = [SoundAugmenter(recipe, spec, []).augment_speech(sound, rng) for sound in sounds]
    assert [speed for _, speed in augmented] == [1.0, 1.0]
    mels = run_front_end([samples for samples, _ in augmented], spec)[0]
    windows = augmenter.windows([mel[-300:] for mel in mels], rng)
    for sound, window in zip(sounds, windows, strict=True):
        front_end = SpeechFrontEnd(spec)
        list(front_end.push(AudioBlock(sound, 0)))
        np.testing.assert_allclose(window, front_end.last_window(0).features, atol=2e-3)


def test_mel_warp_has_unit_gain() -> None:
    warp = MelAugmenter(recipe_with(), SpeechSpec())._warp(np.random.default_rng(3))
    np.testing.assert_allclose(warp.sum(axis=0), 1.0, atol=1e-6)
    assert abs(np.ones(40, np.float32) @ warp - 1.0).max() < 1e-6
    assert (np.argmax(warp, axis=0) != np.arange(40)).any()


def test_limit_band_attenuates_low_and_high_frequencies_only() -> None:
    sound = np.random.default_rng(0).standard_normal(1 << 15).astype(np.float32)
    before, after = (np.abs(np.fft.rfft(x)) ** 2 for x in (sound, limit_band(sound, 16_000, np.random.default_rng(1))))
    hz = np.fft.rfftfreq(1 << 15, 1 / 16_000)
    kept = [after[(hz >= low) & (hz < high)].sum() / before[(hz >= low) & (hz < high)].sum() for low, high in
            ((1, 20), (1000, 2000), (7700, 8000))]  # fmt: skip
    assert kept[0] < 0.2
    assert kept[1] > 0.9
    assert kept[2] < 0.6


def test_reverberation_follows_the_direct_sound() -> None:
    click = np.zeros(16_000, np.float32)
    click[1000] = 1.0
    reverberant = add_reverberation(click, 16_000, np.random.default_rng(0))
    assert np.abs(reverberant[:1000]).max() < 1e-6
    assert reverberant[1000] == pytest.approx(1.0, abs=0.5)
    assert 0 < np.abs(reverberant[1100:2000]).max() < 1.0
    assert len(reverberant) == 16_000


def test_resample_to_fewer_samples_raises_the_pitch() -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000).astype(np.float32)
    faster = resample(tone, 8000)
    assert np.argmax(np.abs(np.fft.rfft(faster))) * 2 == pytest.approx(400, abs=3)


def test_colored_noise_has_the_requested_slope() -> None:
    power = np.abs(np.fft.rfft(colored_noise(1 << 16, 1.0, np.random.default_rng(0)))) ** 2
    low, high = power[100:200].mean(), power[10_000:20_000].mean()
    assert low / high == pytest.approx(100, rel=0.3)


def test_fit_temperature_recovers_a_known_temperature() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4000, 8)) * 2
    drawn = np.array([rng.choice(8, p=p) for p in softmax(logits)])
    assert fit_temperature((logits * 2).astype(np.float32), np.eye(8, dtype=np.float32)[drawn]) == pytest.approx(2.0, rel=0.1)
