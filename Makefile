# Every target sets up what it needs first; a second run opens no connection. `make help` lists them.
#
#   make run ARGS="clip.mp4 --pace max"     arguments for `moodring run`
#   make test DATA=/path/to/data            real recordings (default: ../shared/data where it exists)
#   make test TESTS=tests/features          a part of the tests

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

VENV := .venv
BIN := $(VENV)/bin
DATA ?= $(or $(MOODRING_DATA),$(if $(wildcard ../shared/data/.),../shared/data))
ARGS ?=
TESTS ?=

# Tests and evaluations find the recordings by this one variable, absolute; unset where there are none.
ifneq ($(strip $(DATA)),)
export MOODRING_DATA := $(abspath $(DATA))
endif

CHECKPOINTS := train/checkpoints
BUNDLE := edge/bundles/default
FER := build/data/fer2013.csv
FERPLUS := build/data/fer2013new.csv
# The held-out part of FER2013. Of voices there is none: those of every actor train what ships, and the folds say how good it is.
SPLIT := PublicTest
NOBODY = "$(DATA)/video/pyfeat_no_face.mp4" "$(DATA)/face_images/pyfeat_noface_mountain.jpg"
# What computes: front ends, networks, fusion, and whole recordings.
PLAIN_TESTS := $(foreach part,mfcc spectrum speech_window denoise voice_activity bundle branches fusion face_crop haar \
	face_tracker pipeline smoothing,tests/edge/test_$(part).py) tests/replay
# What runs networks, and what depends on how they round.
NO_VNNI_TESTS := $(foreach part,int8 bundle branches fusion mfcc face_crop smoothing,tests/edge/test_$(part).py)

.PHONY: help run test check data models with-speech folds seeds face-seeds ablations \
	fusion-folds evaluate report clip front-end forms aarch64 test-plain test-no-vnni faces faces-sheet \
	soak-events bench bench-check pictures \
	clean runtime dev need-data

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

runtime:
	@./bootstrap.sh runtime

dev:
	@./bootstrap.sh dev

run: runtime  ## watch and listen (camera and microphone, or the bundled clip), or ARGS="clip.mp4 ..."
	@$(BIN)/moodring run $(ARGS)

test: dev  ## run the whole test suite; DATA=DIR names the real recordings
	-@$(if $(strip $(DATA)),$(MAKE) --no-print-directory data)
	@$(BIN)/python -m pytest $(TESTS)

check: dev  ## format, lint, types and the import contract
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/architecture

need-data:
	@test -n "$(strip $(DATA))" || { echo "make: no recordings: say DATA=DIR (a folder with fer2013/ and ravdess/)" >&2; exit 2; }
	@test -d "$(DATA)" || { echo "make: DATA=$(DATA) is not a folder" >&2; exit 2; }

data: need-data $(FER)  ## unpack FER2013 into build/data

$(FER): | runtime need-data
	@rm -rf build/data.part && mkdir -p build/data.part
	@if test -f "$(DATA)/unpack_fer2013.py"; then $(BIN)/python "$(DATA)/unpack_fer2013.py" build/data.part; \
	elif test -f "$(DATA)/fer2013/fer2013.csv"; then cp "$(DATA)"/fer2013/fer2013*.csv build/data.part/; \
	else echo "make: $(DATA) holds neither unpack_fer2013.py nor fer2013/fer2013.csv" >&2; exit 2; fi
	@rm -rf build/data && mv build/data.part build/data

# The shipped speech model is trained on every actor; the folds' unheard actors calibrate it, and say what to expect of it.
models: folds data  ## train, export and evaluate the five folds and the shipped models (seven hours on two cores)
	@mkdir -p build/train/speech
	cp build/train/shipped/speech.safetensors build/train/shipped/speech.json build/train/
	cp build/train/shipped/speech/metrics.json build/train/speech/
	@$(MAKE) --no-print-directory with-speech DATA="$(DATA)"

with-speech: need-data dev data
	$(BIN)/moodring train face --config configs/train/face.yaml --data "$(DATA)" --out build/train
	$(BIN)/moodring train fusion --config configs/train/fusion.yaml --data "$(DATA)" --out build/train
	@mkdir -p $(CHECKPOINTS) docs/models
	for kind in speech face fusion; do cp build/train/$$kind.safetensors build/train/$$kind.json $(CHECKPOINTS)/ || exit 1; done
	$(BIN)/python -m docs.generate.models.keep history build/train docs/models
	$(BIN)/moodring export $(CHECKPOINTS) --out $(BUNDLE) --data "$(DATA)"
	@$(MAKE) --no-print-directory evaluate DATA="$(DATA)"
	@$(MAKE) --no-print-directory fusion-folds DATA="$(DATA)"
	@$(MAKE) --no-print-directory report

evaluate: need-data runtime data  ## measure the shipped bundle on the held-out parts, into docs/models/*.json
	@mkdir -p docs/models
	$(BIN)/moodring evaluate face --bundle $(BUNDLE) --fer2013 $(FER) --ferplus $(FERPLUS) --split $(SPLIT) --json docs/models/face.json
	$(BIN)/moodring evaluate face --bundle $(BUNDLE) --robustness --fer2013 $(FER) --ferplus $(FERPLUS) --split $(SPLIT) \
		--json docs/models/face_robustness.json
	$(BIN)/moodring evaluate face --bundle $(BUNDLE) --nonfaces $(NOBODY) --json docs/models/face_nonfaces.json
	test ! -d "$(DATA)/ck48" || $(BIN)/moodring evaluate face --bundle $(BUNDLE) --images "$(DATA)/ck48" --json docs/models/face_ck48.json
	rm -f build/sample.jsonl
	$(BIN)/moodring run edge/samples/clip.mp4 --pace max --events build/sample.jsonl && \
		$(BIN)/python -m docs.generate.models.keep events build/sample.jsonl docs/models

# Several folds train at once with `python -m benchmarks.experiments.folds ... --fold K`; this then finds them done.
folds: need-data dev  ## train, export and evaluate the five held-out speech models, and train the one that ships (over two hours on two cores)
	$(BIN)/python -m benchmarks.experiments.folds --config configs/train/speech.yaml --data "$(DATA)" --out build/train \
		--bundles train/folds --json docs/models/speech_folds.json --disturbed

seeds: folds  ## train the five folds twice more with other seeds: how much of a difference is luck (three hours on two cores)
	$(BIN)/python -m benchmarks.experiments.seeds --config configs/train/speech.yaml --data "$(DATA)" --out build/train --json docs/models/speech_seeds.json

# Several train at once with `python -m benchmarks.experiments.face_seeds ... --run K`; this then finds them done. SEEDS=--last-part: of that alone.
face-seeds: need-data dev data  ## train the face model twice more with other seeds (ten hours on one core)
	$(BIN)/python -m benchmarks.experiments.face_seeds --config configs/train/face.yaml --data "$(DATA)" --out build/train $(SEEDS) --json docs/models/face_seeds.json

ablations: need-data dev  ## train one voice network with one thing changed at a time: what its parts are worth (an hour)
	$(BIN)/python -m benchmarks.experiments.ablations --config configs/train/speech_first.yaml --data "$(DATA)" --out build/train/ablations \
		--json docs/models/ablations.json

# Rests on the committed checkpoints, the shipped bundle and the folds' bundles: run it after `make models`.
fusion-folds: need-data dev data  ## compare the ways of fusing over the five folds, and true pairs with pairs by class (five minutes)
	$(BIN)/python -m benchmarks.experiments.fusion_folds --config configs/train/fusion.yaml --data "$(DATA)" --json docs/models/fusion_folds.json
	$(BIN)/python -m moodring.evaluation.record $(BUNDLE) docs/models/face.json docs/models/speech_folds.json docs/models/fusion_folds.json

report: dev  ## write docs/models (report and card, Markdown and HTML) and the README's figures again from the evaluation files, without training
	@$(BIN)/python -m docs.generate.models docs/models $(BUNDLE) train/folds README.md

clip: dev  ## make the bundled clip again (needs espeak-ng)
	$(BIN)/python docs/generate/make_clip.py edge/samples/clip.mp4

front-end: need-data dev  ## measure the speech front end against its peers and write docs/speech_front_end.md again
	@$(BIN)/python -c 'import kaldi_native_fbank, librosa' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.mfcc --json docs/benchmarks/mfcc.json >/dev/null
	$(BIN)/python -m benchmarks.voice_activity --ravdess "$(DATA)/ravdess" --noise "$(DATA)/noise" --json docs/benchmarks/voice_activity.json >/dev/null
	$(BIN)/python -m docs.generate.draw_front_end --clip "$(DATA)/ravdess/Actor_05/03-01-05-01-01-01-05.flac" \
		--noise "$(DATA)/noise/sc_doing_the_dishes.flac" --out docs/speech_front_end.png
	$(BIN)/python -m docs.generate.front_end_page docs

soak-events: dev  ## 100,000 events with broker and daemon killed, a broker that is away, and what the sinks cost (20 minutes)
	$(BIN)/python -m benchmarks.events soak --json docs/benchmarks/events_soak.json >/dev/null
	$(BIN)/python -m benchmarks.events outage --json docs/benchmarks/events_outage.json >/dev/null
	$(BIN)/python -m benchmarks.events overhead --json docs/benchmarks/events_overhead.json >/dev/null

forms: need-data dev data  ## export every form, measure each on this machine, and write the tables in docs/export.md again (5 minutes)
	$(BIN)/moodring export $(CHECKPOINTS) --out build/forms/default --data "$(DATA)" --formats onnx,openvino,batch --table build/forms
	$(BIN)/python -m docs.generate.export_page build/forms/forms.json docs

test-plain: dev  ## the runtime's tests with the fast paths of x86 switched off, as far as libraries let them be
	OPENCV_IPP=disabled OPENCV_CPU_DISABLE=AVX2,AVX512_SKX,FP16 OPENBLAS_CORETYPE=Prescott \
	NPY_DISABLE_CPU_FEATURES="$$($(BIN)/python -c 'from numpy._core._multiarray_umath import __cpu_dispatch__ as d; print(*d)')" \
	$(BIN)/python -m pytest $(PLAIN_TESTS)

# A processor of 2013 is emulated: no VNNI, no AVX-512. The list of its abilities that Linux shows is covered as well.
test-no-vnni: dev  ## the runtime's tests on an emulated processor without VNNI (needs qemu-user; a few minutes)
	./tests/support/without_vnni.sh $(BIN)/python -m pytest -p no:cacheprovider $(NO_VNNI_TESTS)

aarch64: runtime  ## ask whether the runtime can be installed on a 64-bit ARM board, into docs/benchmarks/aarch64.json
	$(BIN)/python -m benchmarks.aarch64 --json docs/benchmarks/aarch64.json

# MOODRING_FER_PYTHON names a Python that has the `fer` package, which can live with nothing else: pip install fer in its own venv.
bench: dev  ## measure what the daemon costs, against the floor and its peers, and write docs/benchmarks.md again (20 minutes)
	@$(BIN)/python -c 'import kaldi_native_fbank, librosa' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/moodring bench --peers --json docs/benchmarks/bench.json
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.scaling --json docs/benchmarks/scaling.json >/dev/null
	$(BIN)/python -m benchmarks.pairs --json docs/benchmarks/pairs.json >/dev/null
	$(BIN)/python -m docs.generate.bench_page docs

bench-check: dev  ## say what became slower than in docs/benchmarks/bench.json
	@$(BIN)/python -c 'import kaldi_native_fbank, librosa' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@mkdir -p build
	$(BIN)/moodring bench --peers --json build/bench.json
	$(BIN)/python -m benchmarks.check docs/benchmarks/bench.json build/bench.json

faces: need-data runtime  ## measure the face front end and write docs/face_front_end.md again (eight minutes)
	$(BIN)/python -m benchmarks.faces --data "$(DATA)" --json docs/benchmarks/faces.json >/dev/null
	$(BIN)/python -m docs.generate.face_page docs

faces-sheet: need-data dev data  ## draw clips with boxes, ids and quality, and crops beside FER2013, into build/faces
	$(BIN)/python -m docs.generate.draw_faces --data "$(DATA)" --cache build/data --out build/faces

pictures: dev  ## draw the README's pictures again (two minutes)
	$(BIN)/python -m docs.generate.draw_terminal docs/terminal.svg
	$(BIN)/python -m docs.generate.draw_page docs/page.png

.PHONY: page
page: dev  ## measure the live page: weight, first paint, ten clients, clients that stop, attacks (three minutes)
	$(BIN)/python -m benchmarks.page --json docs/benchmarks/page.json >/dev/null

.PHONY: soak-faults live
soak-faults: dev  ## every fault of devices and stages, 20 times each, into live runs (eight minutes)
	$(BIN)/python -m benchmarks.faults --jobs 4 --json docs/benchmarks/faults.json >/dev/null

live: dev  ## what the daemon costs, alone and with up to eight streams, and whether it grows (45 minutes)
	$(BIN)/python -m benchmarks.live --json docs/benchmarks/live.json >/dev/null
	$(BIN)/python -m benchmarks.live --streams 1,2,4,8 --seconds 30 --json docs/benchmarks/live_streams.json >/dev/null
	$(BIN)/python -m benchmarks.live --settle 120 --seconds 1800 --json docs/benchmarks/live_growth.json >/dev/null

clean:  ## remove what was built, but not .venv
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
