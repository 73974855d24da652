# Every target first installs what it needs; a second run opens no connection. `make help` lists the targets.
#
#   make run ARGS="clip.mp4 --pace max"     arguments for `moodring run`
#   make test DATA=/path/to/data            real recordings (default: ../shared/data where it exists)
#   make test TESTS=tests/features          a part of the tests
#   make fuzz SECONDS=600                   fuzz each reader for ten minutes

.DEFAULT_GOAL := help
.SUFFIXES:
BIN := .venv/bin
DATA ?= $(or $(MOODRING_DATA),$(if $(wildcard ../shared/data/.),../shared/data))
ARGS ?=
TESTS ?=
SECONDS ?= 60
# Tests and evaluations find the recordings by this variable, as an absolute path; it is unset where there are none.
ifneq ($(strip $(DATA)),)
export MOODRING_DATA := $(abspath $(DATA))
endif
CHECKPOINTS := train/checkpoints
BUNDLE := edge/bundles/default
UNPACKED := build/data
MODELS := docs/models
# The held-out part of FER2013. The shipped speech network was trained on every actor: its figures are those of the folds.
FER2013 := --fer2013 $(UNPACKED)/fer2013.csv --ferplus $(UNPACKED)/fer2013new.csv --split PublicTest
NO_FACES = "$(DATA)/video/pyfeat_no_face.mp4" "$(DATA)/face_images/pyfeat_noface_mountain.jpg"
PLAIN_TESTS := tests/features tests/inference tests/replay tests/edge
NO_VNNI_TESTS := tests/inference tests/features/test_mfcc.py tests/features/test_face_crop.py tests/edge/test_fusion.py

.PHONY: help run test check fuzz types runtime dev need-data data models evaluate bench docs test-plain test-no-vnni clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22
	@echo "  $(BIN)/python -m benchmarks      list the other measurements and long trainings; run one: ... -m benchmarks NAME"

runtime:
	@./bootstrap.sh runtime

dev:  ## install PyTorch (CPU), the extras and the development tools as well (about 2 GB)
	@./bootstrap.sh dev

run: runtime  ## run on the camera and microphone, or the bundled clip; ARGS="clip.mp4 ..."
	@$(BIN)/moodring run $(ARGS)

test: dev  ## run the test suite; DATA=DIR names the real recordings
	-@$(if $(strip $(DATA)),$(MAKE) --no-print-directory data)
	@$(BIN)/python -m pytest $(TESTS)

check: dev  ## check format, lint, types and structure
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(MAKE) --no-print-directory types
	@$(BIN)/python -m pytest tests/architecture

fuzz: dev  ## fuzz each reader of files and requests for SECONDS (60), two at a time; prints the inputs of findings
	@$(BIN)/python -m benchmarks fuzz --seconds $(SECONDS) --json build/fuzz/fuzz.json >/dev/null

# mypy follows no editable install: build/typing lays the three folders out as one package.
types:
	@rm -rf build/typing && mkdir -p build/typing/moodring
	@ln -s $(CURDIR)/edge/* $(CURDIR)/train $(CURDIR)/export build/typing/moodring/
	@$(BIN)/mypy

need-data:
	@test -n "$(strip $(DATA))" || { echo "make: no recordings: set DATA=DIR (a folder with fer2013/ and ravdess/)" >&2; exit 2; }
	@test -d "$(DATA)" || { echo "make: DATA=$(DATA) is not a folder" >&2; exit 2; }

data: runtime need-data $(UNPACKED)/fer2013.csv  ## make build/data: FER2013 unpacked, and links to the other data sets of DATA
	@for entry in "$(abspath $(DATA))"/*; do ln -sfn "$$entry" $(UNPACKED)/; done

$(UNPACKED)/fer2013.csv: | runtime need-data
	@rm -rf $(UNPACKED).part && mkdir -p $(UNPACKED).part
	@if test -f "$(DATA)/unpack_fer2013.py"; then $(BIN)/python "$(DATA)/unpack_fer2013.py" $(UNPACKED).part; \
	elif test -f "$(DATA)/fer2013/fer2013.csv"; then cp "$(DATA)"/fer2013/fer2013*.csv $(UNPACKED).part/; \
	else echo "make: $(DATA) has neither unpack_fer2013.py nor fer2013/fer2013.csv" >&2; exit 2; fi
	@rm -rf $(UNPACKED) && mv $(UNPACKED).part $(UNPACKED)

models: dev data  ## train, export and evaluate the five folds and the shipped models (seven hours on two cores)
	$(BIN)/python -m benchmarks folds --config configs/train/speech.yaml --data $(UNPACKED) --out build/train \
		--bundles train/folds --json $(MODELS)/speech_folds.json --disturbed
	@mkdir -p build/train/speech $(CHECKPOINTS) $(MODELS)
	cp build/train/shipped/speech.safetensors build/train/shipped/speech.json build/train/
	cp build/train/shipped/speech/metrics.json build/train/speech/
	$(BIN)/moodring train face --config configs/train/face.yaml --data $(UNPACKED) --out build/train
	$(BIN)/moodring train fusion --config configs/train/fusion.yaml --data $(UNPACKED) --out build/train
	for kind in speech face fusion; do cp build/train/$$kind.safetensors build/train/$$kind.json $(CHECKPOINTS)/ || exit 1; done
	$(BIN)/python -m docs.generate.models.keep history build/train $(MODELS)
	$(BIN)/moodring export $(CHECKPOINTS) --out $(BUNDLE) --data $(UNPACKED)
	@$(MAKE) --no-print-directory evaluate docs DATA="$(DATA)"

evaluate: dev data  ## measure the shipped bundle on held-out data, into docs/models/*.json
	$(BIN)/moodring evaluate face --bundle $(BUNDLE) $(FER2013) --json $(MODELS)/face.json
	$(BIN)/moodring evaluate face --bundle $(BUNDLE) --robustness $(FER2013) --json $(MODELS)/face_robustness.json
	$(BIN)/moodring evaluate face --bundle $(BUNDLE) --nonfaces $(NO_FACES) --json $(MODELS)/face_nonfaces.json
	test ! -d "$(DATA)/ck48" || $(BIN)/moodring evaluate face --bundle $(BUNDLE) --images "$(DATA)/ck48" --json $(MODELS)/face_ck48.json
	rm -f build/sample.jsonl
	$(BIN)/moodring run edge/samples/clip.mp4 --pace max --events build/sample.jsonl
	$(BIN)/python -m docs.generate.models.keep events build/sample.jsonl $(MODELS)
	$(BIN)/python -m benchmarks fusion_folds --config configs/train/fusion.yaml --data $(UNPACKED) --json $(MODELS)/fusion_folds.json
	$(BIN)/python -m moodring.evaluation.record $(BUNDLE) $(MODELS)/face.json $(MODELS)/speech_folds.json $(MODELS)/fusion_folds.json

# MOODRING_FER_PYTHON names a Python with the `fer` package, which needs an environment of its own.
bench: dev  ## measure the daemon, the kernel baseline and other implementations, and write docs/benchmarks.md (20 minutes)
	@$(BIN)/python -c 'import kaldi_native_fbank, librosa' 2>/dev/null || $(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/moodring bench --peers --json docs/benchmarks/bench.json
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks scaling --json docs/benchmarks/scaling.json >/dev/null
	$(BIN)/python -m benchmarks pairs --json docs/benchmarks/pairs.json >/dev/null
	$(BIN)/python -m docs.generate.bench_page docs

docs: dev  ## write the generated pages again from the committed figures
	$(BIN)/python -m docs.generate.models $(MODELS) $(BUNDLE) train/folds README.md
	$(BIN)/python -m docs.generate.bench_page docs
	$(BIN)/python -m docs.generate.face_page docs
	$(BIN)/python -m docs.generate.front_end_page docs
	$(BIN)/python -m docs.generate.export_page docs/benchmarks/forms.json docs
	$(BIN)/python -m docs.generate.api_page docs
	test ! -d "$(DATA)/av_clips" || $(BIN)/python -m docs.generate.example_outputs docs "$(DATA)"

test-plain: dev  ## run the runtime's tests without the fast paths of x86
	OPENCV_IPP=disabled OPENCV_CPU_DISABLE=AVX2,AVX512_SKX,FP16 OPENBLAS_CORETYPE=Prescott \
	NPY_DISABLE_CPU_FEATURES="$$($(BIN)/python -c 'from numpy._core._multiarray_umath import __cpu_dispatch__ as d; print(*d)')" \
	$(BIN)/python -m pytest $(PLAIN_TESTS)

test-no-vnni: dev  ## run the int8 tests on an emulated processor without VNNI (needs qemu-user)
	./tests/support/without_vnni.sh $(BIN)/python -m pytest -p no:cacheprovider $(NO_VNNI_TESTS)

clean:  ## remove build products, but not .venv
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
