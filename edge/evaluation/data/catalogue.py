"""The catalogue of the supported data sets: source, licence, layout and size. `docs/data.md` repeats it; a test compares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DataSet:
    """One data set: `folder` is its folder in a data folder, `md5` the checksums of the publisher by file name."""

    name: str
    folder: str
    description: str
    used_for: str
    licence: str
    commercial: str
    source: str
    layout: str
    size: str
    md5: tuple[tuple[str, str], ...] = ()


CATALOGUE = (
    DataSet(
        name="FER2013",
        folder="fer2013",
        description="grey faces from the web, 48 x 48 pixels, seven classes",
        used_for="training and testing the face network",
        licence="Kaggle challenge 2013: research use",
        commercial="no",
        source="https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge",
        layout="fer2013/fer2013.csv (emotion,pixels,Usage)",
        size="35,887 images: 28,709 Training, 3,589 PublicTest, 3,589 PrivateTest",
        md5=(("fer2013.csv", "f8428a1edbd21e88f42c73edd2a14f95"),),
    ),
    DataSet(
        name="FER+",
        folder="fer2013",
        description="the votes of ten annotators for every image of FER2013",
        used_for="training and testing the second output of the face network, which moodring publishes",
        licence="MIT",
        commercial="yes, with images you may use",
        source="https://github.com/microsoft/FERPlus",
        layout="fer2013/fer2013new.csv beside fer2013.csv",
        size="35,887 rows",
    ),
    DataSet(
        name="RAVDESS speech",
        folder="ravdess",
        description="24 actors, two sentences, eight expressions, two intensities",
        used_for="training and testing the speech network",
        licence="CC BY-NC-SA 4.0",
        commercial="no; the authors sell licences",
        source="https://doi.org/10.5281/zenodo.1188976",
        layout="ravdess/Actor_NN/03-01-EE-II-SS-RR-AA.wav or .flac",
        size="1,440 recordings, 60 of each actor",
        md5=(("Audio_Speech_Actors_01-24.zip", "bc696df654c87fed845eb13823edef8a"),),
    ),
    DataSet(
        name="RAVDESS video",
        folder="ravdess_video",
        description="the same recordings with the face of the actor",
        used_for="evaluating the fusion on true pairs",
        licence="CC BY-NC-SA 4.0",
        commercial="no; the authors sell licences",
        source="https://doi.org/10.5281/zenodo.1188976",
        layout="ravdess_video/Actor_NN/01-01-EE-II-SS-RR-AA.mp4",
        size="1,440 recordings, 60 of each actor",
    ),
    DataSet(
        name="RAVDESS action units",
        folder="ravdess_au",
        description="facial action units (OpenFace) of each RAVDESS video, as numbers",
        used_for="comparing true pairs with pairs by class",
        licence="CC BY-NC-SA 4.0",
        commercial="no",
        source="https://doi.org/10.5281/zenodo.3255102",
        layout="ravdess_au/manifest.csv: clip, AU01_r ... AU45_c, means over the clip",
        size="one row for each recording",
    ),
    DataSet(
        name="CREMA-D",
        folder="crema_d",
        description="91 actors, 12 English sentences, six expressions, with the votes of listeners",
        used_for="training and testing the speech network on other people, microphones and languages",
        licence="ODbL 1.0, DbCL 1.0",
        commercial="yes, under the terms of the ODbL",
        source="https://github.com/CheyneyComputerScience/CREMA-D",
        layout="crema_d/manifest.csv (path,speaker,label); votes.csv",
        size="7,442 recordings",
    ),
    DataSet(
        name="ASED",
        folder="ased",
        description="65 speakers of Amharic, five expressions, checked by eight judges",
        used_for="training and testing the speech network on other people, microphones and languages",
        licence="open; cite Retta et al. 2022",
        commercial="ask the authors",
        source="https://github.com/Ethio2021/ASED_V1",
        layout="ased/manifest.csv (path,speaker,label)",
        size="2,474 recordings",
    ),
    DataSet(
        name="nEMO",
        folder="nemo",
        description="9 speakers of Polish, six expressions",
        used_for="training and testing the speech network on other people, microphones and languages",
        licence="CC BY-NC-SA 4.0",
        commercial="no",
        source="https://github.com/amu-cai/nEMO",
        layout="nemo/manifest.csv (path,speaker,label)",
        size="4,481 recordings",
    ),
    DataSet(
        name="URDU",
        folder="urdu",
        description="talk shows in Urdu, four expressions that are not acted",
        used_for="training and testing the speech network on other people, microphones and languages",
        licence="research use",
        commercial="no",
        source="https://github.com/siddiquelatif/URDU-Dataset",
        layout="urdu/manifest.csv (path,speaker,label)",
        size="400 recordings of 38 speakers",
    ),
    DataSet(
        name="KETTS",
        folder="ketts",
        description="speakers of Korean, four expressions",
        used_for="training and testing the speech network on other people, microphones and languages",
        licence="CC BY-NC-SA 4.0",
        commercial="no",
        source="https://github.com/emotiontts/emotiontts_open_db",
        layout="ketts/manifest.csv (path,speaker,label)",
        size="15 speakers, of whom 20 recordings each are used",
    ),
    DataSet(
        name="TESS",
        folder="tess",
        description="2 speakers of English, seven expressions",
        used_for="testing the speech network; never alone, as it has two speakers",
        licence="CC BY-NC-ND 4.0",
        commercial="no",
        source="https://doi.org/10.5683/SP2/E8H2MF",
        layout="tess/SPEAKER/SPEAKER_word_emotion.wav, or manifest.csv",
        size="2,800 recordings",
    ),
    DataSet(
        name="LibriSpeech",
        folder="read_speech",
        description="people who read aloud, without labels",
        used_for="counting how often speech without expression is called something else",
        licence="CC BY 4.0",
        commercial="yes, with credit",
        source="https://www.openslr.org/12",
        layout="read_speech/manifest.csv (path,speaker,label; the labels are empty)",
        size="2,484 speakers, of whom 110 are used, one recording each",
    ),
    DataSet(
        name="ESC-10 and long noises",
        folder="noise",
        description="sounds without speech",
        used_for="noise for training and for tests",
        licence="CC BY 3.0 (ESC-10), CC BY 4.0",
        commercial="yes, with credit",
        source="https://github.com/karolpiczak/ESC-50",
        layout="noise/*.flac or .wav (tests), noise/esc10/CLASS/FOLD-*.flac (training)",
        size="400 clips of 5 s in ESC-10",
    ),
)
