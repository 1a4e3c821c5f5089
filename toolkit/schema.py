"""The schema of the one configuration tree: a section for each stage, and what the stages share.

A stage reads the section of its own name plus the sections of what it builds, so the stages of an experiment
cannot disagree about a path or a model. Parts (`encoder`, `adapter`, ...) get their schema from their own
signatures (`toolkit.registry`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class WhisperConfig:
    """What a corpus suggests for encoder=whisper and for no other; `encoder.model` and `encoder.window` overrule it."""

    model: str = MISSING
    window: str = "padded"


@dataclass
class PrepareConfig:
    """Corpus -> cuts."""

    format: str = MISSING
    """`librispeech` (folders as LibriSpeech has them), `kaldi` (wav.scp text utt2spk), `jsonl` (egs/mini)"""
    corpus: str = MISSING
    """folder of the corpus"""
    splits: dict[str, str] = field(default_factory=lambda: {"train": "", "dev": "", "test": ""})
    """our split -> the corpus' name of it, e.g. {train: train-clean-100}; `a+b` joins two"""
    case: str = "keep"
    """`keep`; `lower`; or `sentence`: capitals and a full stop for the bare upper case of LibriSpeech"""
    too_long: str = "error"
    """what to do with an utterance longer than `max_duration`: `error` or `skip` (counted); never a cut"""
    bad_audio: str = "error"
    """what to do with missing, broken or silent audio and empty transcripts: `error` or `skip` (counted)"""
    max_duration: float = 30.0
    """seconds"""
    max_utterances: int = 0
    """keep the first N of each split after a fixed shuffle; 0 keeps all"""
    development: int = 0
    """move this many utterances of `train` to `dev`, where the corpus has none (fixed choice)"""


@dataclass
class AlignConfig:
    """Cuts -> cuts with word times."""

    source: str = "pocketsphinx"
    """`pocketsphinx`, `ctm`, `textgrid`, `ctc` (a trained adapter that emits tokens, such as a warm start), `whisper`
    (where its decoder looks as it reads the transcript, in `decode.language`), or `given` (the corpus has them)"""
    path: str = ""
    """the CTM file, the folder of TextGrids, one per utterance id, or the checkpoint folder for `ctc`"""
    model: str = ""
    """the Whisper of `whisper`; empty means the encoder's own"""
    jobs: int = 1
    """processes"""


@dataclass
class UnitsConfig:
    """Frames -> the centroids of encoder=units."""

    count: int = 500
    """units; SIMS (arXiv 2504.02398) has 500"""
    frames: int = 100_000
    """frames to fit them to, in whole utterances of train drawn by the seed (ours: half an hour at 50 a second)"""
    iterations: int = 50
    """at most so many of k-means (ours)"""


@dataclass
class EncodeConfig:
    """Frozen encoder frames -> cache."""

    batch_size: int = 16
    """utterances encoded together"""
    shard_size: int = 256
    """utterances in a file; an interrupted run loses at most one of them"""
    copies: int = 0
    """distorted copies of each training utterance (speed, room, noise), for training without answers"""
    verify: int = 2
    """utterances encoded again, and compared, before cached frames of a split are used; 0 trusts them"""


@dataclass
class ImitateConfig:
    """Transcripts -> the text LLM's own answers."""

    tasks: str = "${oc.env:TOOLKIT_ROOT}/recipes/tasks"
    """folder of task files: what dev and test are asked, and what is trained unless `train_tasks` says other"""
    train_tasks: str = ""
    """folder of the task files that are trained; empty means `tasks`"""
    use: list[str] = field(default_factory=list)
    """tasks to train on; empty means every task that is not held out"""
    tasks_per_cut: int = 2
    """how many of the training tasks each training utterance is asked, drawn by its id"""
    concatenated: float = 0.0
    """share of the training requests in which another utterance's transcript stands, as text, before or after this
    one's speech, and the answer is about both; needs no word times"""
    engine: str = "local"
    """who answers: `local`, the decoder on this machine; `openai`, an LLM behind a server that speaks OpenAI's protocol
    (section `server`): vLLM, SGLang, llama.cpp, `transformers serve` ..."""
    served_model: str = ""
    """for `openai`: the name that the server knows the LLM by; its answers are kept under it"""
    request: dict[str, Any] = field(default_factory=dict)
    """for `openai`: what else every request says, e.g. {chat_template_kwargs: {enable_thinking: false}}"""
    max_new_tokens: int = 24
    """answers longer than this are cut and marked, so that no end of turn is trained after them"""
    batch_size: int = 48
    train_utterances: int = 0
    """ask only N utterances of train, spread over it; 0 asks all"""
    dev_utterances: int = 0
    """ask only N utterances of dev, spread over it; 0 asks all"""
    test_utterances: int = 0
    """ask only N utterances of test, spread over it; 0 asks all"""
    jobs: int = 1
    """processes that answer together, each with the LLM in its memory (and an accelerator of its own, if there are
    several); whoever runs the same command on the same folder helps too"""
    shard: str = ""
    """answer one part alone, such as `2/4`, the second of four, on machines that share no folder; a run without it
    puts the parts together"""
    filters: list[str] = field(default_factory=list)
    """leave answers out of training: `refusal`, `echo` (of the transcript), `loop`, `cut` (at the length limit),
    `language` (not English); counted in the data card. Dev and test are never filtered"""
    top_k: int = 0
    """keep the teacher's k likeliest tokens at each position of the training targets, so that loss=distillation runs
    no teacher; in the precision of `decoder.dtype`, whatever `train.decoder_dtype` is. 0 keeps none"""


@dataclass
class ServerConfig:
    """Where the LLM is served, for imitate.engine=openai. Nothing here decides an answer, so all of it may change.

    A key that the server asks for is taken from the environment variable OPENAI_API_KEY, and from nowhere else.
    """

    url: str = "http://localhost:8000/v1"
    concurrency: int = 16
    """requests under way at once; up to four batches of answers are kept at a time (`imitate.batch_size`)"""
    timeout: float = 300.0
    """seconds without a byte after which a request is given up"""
    retries: int = 5
    """how often a request is sent again where the server is busy or gone: after 1 s, 2 s, 4 s ..."""


@dataclass
class TrainConfig:
    """Cuts, cached frames and answers -> a trained adapter."""

    init_from: str = ""
    """checkpoint folder to start from, such as the warm start's"""
    steps: int = 1000
    """optimiser steps; 0 is nothing to train"""
    max_minutes: float = 0.0
    """stop after this many minutes, with the schedule stretched to fit; 0 means no limit"""
    batch_size: int = 16
    """utterances a step, over all ranks and micro-batches"""
    micro_batch_size: int = 0
    """utterances a forward pass, in validation too (16 at most); 0 means the whole batch, and 16 in validation"""
    batch_tokens: int = 0
    """positions a step, over all ranks and micro-batches, in the place of `batch_size`: embeddings of the speech and
    tokens of prompt and answer, with their padding; a row that has more is a step by itself. 0 goes by `batch_size`"""
    micro_batch_tokens: int | None = None
    """positions a forward pass, with their padding, in the place of `micro_batch_size`: rows of a step about as long as
    each other go together. 0 goes by `micro_batch_size`; null does so where that is given, takes 640 on a CPU, which
    runs more at once no faster, and all of a step elsewhere"""
    workers: int = 0
    """processes of each rank that make its batches; 0 makes them in training itself"""
    packing: bool = False
    """whether the decoder runs several short rows in the place of a long one; what is learnt is the same"""
    compile: bool = False
    """whether norms and MLPs of the decoder run compiled in training; it takes a C++ compiler or, on a GPU, Triton;
    docs/batches.md says when it pays"""
    learning_rate: float = 1e-3
    encoder: str = "frozen"
    """what is trained of the encoder: `frozen`, nothing, and the encode stage keeps its frames; `lora`, matrices beside
    its linear layers; `full`, all of it. The last two compute frames from the audio in every step"""
    encoder_learning_rate: float | None = None
    """of what is trained of the encoder; null is `learning_rate`"""
    encoder_rank: int = 8
    encoder_alpha: int = 16
    encoder_dropout: float = 0.0
    encoder_targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])
    """for `encoder: lora`: the last part of the names of the encoder's linear layers that get it"""
    weight_decay: float = 0.01
    warmup: float = 0.05
    """share of the steps in which the learning rate rises"""
    clip: float = 1.0
    """norm to which gradients are clipped; 0 does not clip"""
    anchor: float = 0.0
    """weight of CTC on the transcripts beside the recipe's loss; for adapters that emit tokens"""
    validate_every: int = 100
    """steps between two looks at the development set (and two checkpoints)"""
    validation_utterances: int = 48
    speech_share: float = 0.5
    """share of the examples that stay plain speech when the interleaver would mix in text"""
    text_share: float = 0.0
    """share of the examples given as text alone; only a decoder that is trained learns from them"""
    speech_share_start: float | None = None
    """`speech_share` of the first step, from where it moves in a line to its own value; null is no curriculum"""
    curriculum_steps: int = 0
    """optimiser steps in which it does so, whatever `max_minutes` says; 0 is no curriculum"""
    decoder_dtype: str = ""
    """precision of the frozen decoder in training: `fp32`, `bf16`, or `auto`: what a few products, timed at the start,
    find fast on this machine; empty means that of `decoder.dtype`, in which answers are drawn"""
    strategy: str = "auto"
    """of several processes (torchrun): `ddp`, each holds the whole text LLM; `fsdp`, its layers are shared out among
    the processes of a machine, for an LLM that does not fit; `auto` is ddp (docs/ranks.md)"""
    rank_timeout: float = 10.0
    """minutes that processes wait for one another before they give up"""


@dataclass
class DecodeConfig:
    """Checkpoint + cuts -> hypotheses."""

    split: str = "test"
    systems: list[str] = field(default_factory=lambda: ["speech", "cascade", "deaf"])
    """`speech`, `cascade` (Whisper's transcript into the same LLM), `deaf` (another utterance's speech);
    the topline is what the imitate stage wrote"""
    hears: str = "model"
    """who hears for `speech` and `deaf`: the trained `model`, or the `recogniser`: then this experiment is a cascade"""
    batch_size: int = 32
    recogniser: str = ""
    """Whisper of the cascade; empty means the encoder's own"""
    language: str = "en"
    """what a multilingual recogniser is told it hears, by code or English name; empty lets it guess. A model of
    English alone (`*.en`) needs none"""


@dataclass
class ScoreConfig:
    """Hypotheses -> scores."""

    normaliser: str = "english"
    """for word error rates: `english` (Whisper's), `basic` (lower case, no punctuation), `none`"""
    bootstrap: int = 1000
    """resamples for the 95 % intervals"""
    examples: int = 3
    """worked examples to show"""


@dataclass
class BenchConfig:
    """Checkpoint + cuts -> the generalisation benchmark, of `decode.split`."""

    utterances: int = 24
    """ask about N utterances of the split, spread over it; 0 asks about all"""
    wordings: int = 0
    """ask each utterance and task in N seen and N held-out wordings, drawn by its id; 0 asks all"""
    systems: list[str] = field(default_factory=lambda: ["speech", "cascade", "deaf"])
    """as for `decode`; the text LLM answers the true transcript, and another one, in any case"""
    tasks: str = ""
    """folder of the task files asked; empty means `imitate.tasks`"""
    knowledge: int = 64
    """questions in text alone that the trained model and the untouched LLM both answer; 0 leaves them out"""
    rescore: bool = False
    """score the answers that are there, and ask nothing"""


@dataclass
class Config:
    """Everything, for every stage."""

    exp_dir: str = MISSING
    """folder of this experiment: checkpoint, logs, hypotheses, scores"""
    data_dir: str = "data"
    """folder of the prepared data: one sub-folder per split"""
    seed: int = 1
    whisper: WhisperConfig = field(default_factory=WhisperConfig)
    encoder: Any = MISSING
    adapter: Any = MISSING
    decoder: Any = MISSING
    interleaver: Any = MISSING
    loss: Any = MISSING
    cut: str = "embeddings"
    """where interleaving cuts: adapter `embeddings`, encoder `frames` (each span adapted alone), or the `audio` (each
    span encoded alone: it hears nothing of what is around it, and no frames can be kept)"""
    system: str | None = None
    """system prompt of the chat template; null leaves it to the template"""
    speech_marker: str = ""
    """plain text before each piece of speech in an interleaved row, such as `<speech>`; empty is none. A shell needs
    two pairs of quotes for it, its own and Hydra's: `"speech_marker='<speech>'"`"""
    text_marker: str = ""
    """plain text before each piece of text in an interleaved row, such as `<text>`; empty is none"""
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    units: UnitsConfig = field(default_factory=UnitsConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    imitate: ImitateConfig = field(default_factory=ImitateConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)
