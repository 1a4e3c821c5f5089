"""Write the sentences of the mini corpus: one JSON object a line, the same for the same seed.

Sentences come from a small grammar: ``templates.yaml`` (sentence templates by kind) and ``lexicon.yaml``
(word classes), both next to this file. In a template or a lexicon item

* ``{class}`` is any item of the class, never the same item twice in a sentence;
* ``{a class}`` is the same with "a" or "an" before it, ``{class+s}`` is its plural;
* ``{x|y|z}`` is one of the alternatives; each may hold slots; an alternative that is the name of a class (or
  ``a class``, ``class+s``) stands for the class, unless a ``'`` comes before it; ``_`` is nothing;
* ``{he} {him} {his}`` agree with the first person of the sentence.

The words are spread as a recogniser with little data needs them: the ``common`` items and the words of the
templates occur again and again, and each ``rare`` item once (some twice), nearly always in a training
sentence. To get there, every rare word is given a sentence of its own, each sentence is picked among
several candidates so that words already seen a few times are seen again, and words of the templates that
stay too scarce are left out altogether in a second and third pass.

Development and test sentences come from the same grammar, but from each training sentence (and from each
other) they differ by at least two content words (an edit distance of two or more over the words that are
not function words). Every sentence gets its split, its voice and its speaking rate here as well, so that
the speech is fully determined by this file's output.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent

TEST_VOICES = ["af_nova", "am_michael", "bf_emma", "bm_george"]
DEV_VOICES = ["af_sarah", "am_fenrir"]
TRAIN_VOICES = [
    "af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole", "af_river",
    "af_sky", "am_adam", "am_echo", "am_eric", "am_liam", "am_onyx", "am_puck", "am_santa",
    "bf_alice", "bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_lewis",
]  # fmt: skip

KIND_SHARE = {"statement": 0.45, "opinion": 0.20, "question": 0.25, "request": 0.10}

FUNCTION_WORDS = frozenset(
    """
    a an the and or but so if when while because that which who what where why how this these those it its
    is are was were be been am do does did has have had can could will would should may must not no of in on
    at to from for with by about into onto near under behind over after before than then there here i you he
    she we they me him her us them my your his our their as up down out off too very really some any more
    most please
    """.split()  # noqa: SIM905
)
PRONOUNS = {
    "f": {"he": "she", "him": "her", "his": "her"},
    "m": {"he": "he", "him": "him", "his": "his"},
}
GENDERED = {
    "actress": "f", "waitress": "f", "fisherman": "m", "postman": "m", "monk": "m", "priest": "m",
    "landlord": "m", "man": "m", "woman": "f",
}  # fmt: skip
PLURALS = {
    "mouse": "mice", "fish": "fish", "sheep": "sheep", "deer": "deer", "goose": "geese", "ox": "oxen",
    "wolf": "wolves", "calf": "calves", "moose": "moose", "knife": "knives", "scissors": "scissors",
    "police officer": "police officers", "fisherman": "fishermen", "postman": "postmen",
    "octopus": "octopuses", "foot": "feet", "tooth": "teeth", "buffalo": "buffalo",
}  # fmt: skip
AN_EXCEPTIONS = {"hour": True, "honest": True, "university": False, "uniform": False, "unique": False,
                 "useful": False, "useless": False, "used": False, "unusual": True}  # fmt: skip


def plural(word: str) -> str:
    """The plural of a noun."""
    if word in PLURALS:
        return PLURALS[word]
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    if re.search(r"(s|x|z|ch|sh)$", word) or word in {"mango", "potato", "tomato", "mosquito"}:
        return word + "es"
    return word + "s"


def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it."""
    first = phrase.split()[0].lower()
    vowel = AN_EXCEPTIONS.get(first, first[0] in "aeiou")
    return f"{'an' if vowel else 'a'} {phrase}"


def plain(word: str) -> str:
    """A word as it is counted: lower case, without punctuation."""
    return re.sub(r"[^a-z']", "", word.lower()).strip("'")


def words_of(text: str) -> list[str]:
    """The words of a sentence as they are counted."""
    return [plain(w) for w in text.split()]


def content_words(text: str) -> tuple[str, ...]:
    """The words of a sentence that are not function words."""
    return tuple(w for w in words_of(text) if w not in FUNCTION_WORDS)


def far_enough(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether the word-level edit distance is at least two."""
    if abs(len(a) - len(b)) >= 2:
        return True
    if a == b:
        return False
    short = min(len(a), len(b))
    head = next((i for i in range(short) if a[i] != b[i]), short)
    tail = next((i for i in range(short - head) if a[-1 - i] != b[-1 - i]), short - head)
    return max(len(a), len(b)) - head - tail >= 2


@dataclass
class WordClass:
    """One class of the lexicon."""

    common: list[str]
    rare: list[str]
    gender: str | None = None


@dataclass
class State:
    """What one expansion remembers."""

    rng: random.Random
    force: tuple[str, str] | None = None  # class and rare word that must be used
    forced: bool = False
    used: set[str] = field(default_factory=set)
    gender: str | None = None


class DeadEnd(Exception):
    """An expansion that cannot be finished."""


class Grammar:
    """Templates and lexicon, and the expansion of one template."""

    slot = re.compile(r"(a )?([a-z_]+?)(\+s)?")

    def __init__(self, lexicon: Path, templates: Path) -> None:
        raw = yaml.safe_load(lexicon.read_text(encoding="utf-8"))
        self.classes: dict[str, WordClass] = {}
        for name, entry in raw.items():
            common = split_items(entry["common"])
            rare = [w for w in split_items(entry.get("rare", "")) if w not in common]
            self.classes[name] = WordClass(common, rare, entry.get("gender"))
        self.templates: list[tuple[str, str]] = [
            (kind, text)
            for kind, texts in yaml.safe_load(templates.read_text(encoding="utf-8")).items()
            for text in texts
        ]
        self.check()

    def check(self) -> None:
        """Fail early on a slot that names no class."""
        texts = [t for _, t in self.templates] + [i for c in self.classes.values() for i in c.common if "{" in i]
        for text in texts:
            for inner in re.findall(r"{([^{}|]*)}", text):
                match = self.slot.fullmatch(inner)
                if inner not in ("he", "him", "his") and (not match or match[2] not in self.classes):
                    raise ValueError(f"unknown slot {{{inner}}} in: {text}")

    def reach(self, text: str) -> set[str]:
        """The classes that an expansion of the text can use."""
        found: set[str] = set()
        todo = [text]
        while todo:
            for name in re.findall(r"(?<=[{|])(?:a )?([a-z_]+?)(?:\+s)?(?=[|}])", todo.pop()):
                if name in self.classes and name not in found:
                    found.add(name)
                    todo += [i for i in self.classes[name].common if "{" in i]
        return found

    def expand(self, text: str, state: State) -> str:
        """The text with every slot filled."""
        out, i = [], 0
        while i < len(text):
            if text[i] != "{":
                j = text.find("{", i)
                j = len(text) if j < 0 else j
                out.append(text[i:j])
                i = j
                continue
            depth, j = 1, i + 1
            while depth:
                depth += {"{": 1, "}": -1}.get(text[j], 0)
                j += 1
            out.append(self.fill(text[i + 1 : j - 1], state))
            i = j
        return "".join(out)

    def fill(self, inner: str, state: State) -> str:
        """What stands for one pair of braces."""
        options = split_top(inner)
        if len(options) > 1:
            choice = state.rng.choice(options)
            if choice == "_":
                return ""
            if choice.startswith("'"):
                return choice[1:]
            match = self.slot.fullmatch(choice)
            return self.fill(choice, state) if match and match[2] in self.classes else self.expand(choice, state)
        if inner in ("he", "him", "his"):
            if state.gender is None:
                state.gender = state.rng.choice("fm")
            return PRONOUNS[state.gender][inner]
        match = self.slot.fullmatch(inner)
        if not match or match[2] not in self.classes:
            return self.expand(inner, state)
        word = self.pick(match[2], state)
        if match[3]:
            word = plural(word)
        return article(word) if match[1] else word

    def pick(self, name: str, state: State) -> str:
        """An item of a class: the forced one, or a common one."""
        entry = self.classes[name]
        if state.force and not state.forced and state.force[0] == name:
            word, state.forced = state.force[1], True
        else:
            free = [w for w in entry.common if w not in state.used or "{" in w]
            if not free:
                raise DeadEnd(name)
            word = state.rng.choice(free)
        state.used.add(word)
        if state.gender is None:
            if name == "role":
                state.gender = GENDERED.get(word) or state.rng.choice("fm")
            elif entry.gender:
                state.gender = entry.gender
        return self.expand(word, state) if "{" in word else word

    def sentence(self, text: str, rng: random.Random, force: tuple[str, str] | None) -> str | None:
        """One sentence from a template, or None where the forced word found no place."""
        state = State(rng, force)
        try:
            out = self.expand(text, state)
        except DeadEnd:
            return None
        if force and not state.forced:
            return None
        out = re.sub(r"\s+", " ", out).strip()
        out = re.sub(r" ([,.?!])", r"\1", out).replace("s's", "s'")
        out = out[0].upper() + out[1:]
        return out


def split_items(text: str) -> list[str]:
    """The items of a comma-separated list; slots may hold commas."""
    return [i for i in (split_top(text, ",") if text else []) if i]  # a repeated item is likelier


def split_top(text: str, mark: str = "|") -> list[str]:
    """Split at the marks outside braces."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += {"{": 1, "}": -1}.get(c, 0)
        if c == mark and not depth:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


class Builder:
    """Chooses the sentences."""

    def __init__(self, grammar: Grammar, seed: int, candidates: int, rare_limit: int, words: tuple[int, int]) -> None:
        self.grammar = grammar
        self.rng = random.Random(seed)
        self.candidates = candidates
        self.words = words
        self.banned: set[str] = set()
        self.reach = [grammar.reach(text) for _, text in grammar.templates]
        literal: set[str] = set()
        for _, text in grammar.templates:
            literal.update(plain(w) for w in re.split(r"[^A-Za-z']+", re.sub(r"{[a-z_+ ]*}", " ", text)))
        for entry in grammar.classes.values():
            for item in entry.common:
                literal.update(words_of(re.sub(r"{[^}]*}", " ", item)))
        reachable = set().union(*self.reach)
        self.rare: list[tuple[str, str]] = []
        seen: set[str] = set()
        for name, entry in grammar.classes.items():
            for word in entry.rare:
                news = [w for w in words_of(word) if w not in literal]
                if news and word not in seen and name in reachable:
                    seen.add(word)
                    self.rare.append((name, word))
        if rare_limit < len(self.rare):
            self.rare = self.rng.sample(self.rare, rare_limit)
        self.rare_words = {w for _, item in self.rare for w in words_of(item)} - literal

    def fresh(self) -> None:
        """Forget the sentences, keep the banned words."""
        self.counts: collections.Counter[str] = collections.Counter()
        self.kinds: collections.Counter[str] = collections.Counter()
        self.uses: collections.Counter[int] = collections.Counter()
        self.taken: set[str] = set()
        self.by_length: dict[int, list[tuple[str, ...]]] = collections.defaultdict(list)

    def score(self, text: str) -> float:
        """Higher where words that are still scarce come back and no new ones come in."""
        total = 0.0
        # In order: a sum of floats must not depend on the order of a set.
        for word in dict.fromkeys(words_of(text)):
            if word in self.rare_words or word in FUNCTION_WORDS:
                continue
            n = self.counts[word]
            total += -1.5 if n == 0 else (1.5 if n < 16 else -min(n, 200) / 200)
        return total / max(4, len(text.split())) ** 0.5

    def near(self, key: tuple[str, ...]) -> bool:
        """Whether an accepted sentence has nearly the same content words."""
        for length in (len(key) - 1, len(key), len(key) + 1):
            if any(not far_enough(key, other) for other in self.by_length[length]):
                return True
        return False

    def propose(self, total: int, force: tuple[str, str] | None, apart: bool) -> tuple[str, str, int] | None:
        """The best of several candidates."""
        deficit = {k: max(0.01, share * (total + 20) - self.kinds[k]) for k, share in KIND_SHARE.items()}
        pool = [i for i, reach in enumerate(self.reach) if force is None or force[0] in reach]
        kinds = [self.grammar.templates[i][0] for i in pool]
        size = collections.Counter(kinds)
        weights = [deficit[k] / size[k] / (1 + self.uses[i]) for k, i in zip(kinds, pool, strict=True)]
        best: tuple[float, str, str, int] | None = None
        found = 0
        for _ in range(self.candidates * 40):
            i = self.rng.choices(pool, weights)[0]
            kind, template = self.grammar.templates[i]
            text = self.grammar.sentence(template, self.rng, force)
            if text is None or text in self.taken:
                continue
            words = words_of(text)
            if not self.words[0] <= len(words) <= self.words[1] or self.banned & set(words):
                continue
            if apart and self.near(content_words(text)):
                continue
            score = self.score(text)
            if best is None or score > best[0]:
                best = (score, text, kind, i)
            found += 1
            if found == self.candidates:
                break
        return best and best[1:]

    def accept(self, text: str, kind: str, template: int, count: bool = True) -> None:
        """Take a sentence."""
        self.taken.add(text)
        self.kinds[kind] += 1
        self.uses[template] += 1
        key = content_words(text)
        self.by_length[len(key)].append(key)
        if count:
            self.counts.update(words_of(text))

    def training(self, number: int) -> list[dict[str, str]]:
        """The training sentences, every rare word once and, where there is room, some twice."""
        self.fresh()
        jobs: list[tuple[str, str] | None] = list(self.rare)
        self.rng.shuffle(jobs)
        jobs = jobs[:number]
        again = list(self.rare)
        self.rng.shuffle(again)
        spare = number - len(jobs)
        jobs += again[: spare // 4]
        jobs += [None] * (number - len(jobs))
        self.rng.shuffle(jobs)
        out = []
        for force in jobs:
            found = self.propose(len(out), force, apart=False)
            if found is None:
                found = self.propose(len(out), None, apart=False)
            if found:
                self.accept(*found)
                out.append({"text": found[0], "kind": found[1]})
        return out

    def ban(self, floor: int) -> int:
        """Leave out the scarce words of the templates from now on; how many there are."""
        news = {w for w, n in self.counts.items() if n < floor and w not in self.rare_words} - self.banned
        self.banned |= news
        return len(news)

    def held_out(self, number: int, rare_share: float) -> list[dict[str, str]]:
        """Sentences that are far from all those accepted so far, made of words seen in training."""
        seen_rare = [r for r in self.rare if self.counts[plain(r[1])] >= 1]
        self.kinds.clear()
        self.banned |= {w for w, n in self.counts.items() if n < 4 and w not in self.rare_words}
        out: list[dict[str, str]] = []
        while len(out) < number:
            force = self.rng.choice(seen_rare) if self.rng.random() < rare_share else None
            found = self.propose(len(out), force, apart=True)
            if found and not any(w not in self.counts for w in words_of(found[0])):
                self.accept(*found, count=False)
                out.append({"text": found[0], "kind": found[1]})
        return out


def deal(rng: random.Random, rows: list[dict[str, str]], split: str, voices: list[str]) -> Iterable[dict[str, object]]:
    """Give the sentences of a split their voices (kinds spread evenly) and rates."""
    rows = list(rows)
    rng.shuffle(rows)
    rows.sort(key=lambda r: r["kind"])
    offset = rng.randrange(len(voices))
    dealt = [(voices[(offset + i) % len(voices)], row) for i, row in enumerate(rows)]
    number: collections.Counter[str] = collections.Counter()
    rng.shuffle(dealt)
    for voice, row in sorted(dealt, key=lambda d: d[0]):
        number[voice] += 1
        yield {
            "id": f"{voice}-{number[voice]:03d}",
            "voice": voice,
            "split": split,
            "kind": row["kind"],
            "text": row["text"],
            "speed": round(rng.uniform(0.95, 1.15), 2),
        }


def statistics(rows: list[dict[str, object]]) -> dict[str, float]:
    """The figures that the README gives."""
    train = collections.Counter(w for r in rows if r["split"] == "train" for w in words_of(str(r["text"])))
    every = collections.Counter(w for r in rows for w in words_of(str(r["text"])))
    ranked = every.most_common()
    total = sum(every.values())
    stats: dict[str, float] = {
        "sentences": len(rows),
        "running words": total,
        "words a sentence": round(total / len(rows), 2),
        "distinct words": len(every),
        "% of running words, 700 commonest": round(100 * sum(n for _, n in ranked[:700]) / total, 2),
        "count of the 700th word": ranked[699][1] if len(ranked) > 699 else 0,
        "words seen 10 times or more": sum(n >= 10 for n in every.values()),
        "words seen 4 to 9 times": sum(4 <= n <= 9 for n in every.values()),
        "words seen 1 to 3 times": sum(n <= 3 for n in every.values()),
    }
    for split in ("dev", "test"):
        words = [w for r in rows if r["split"] == split for w in words_of(str(r["text"]))]
        often = sum(train[w] >= 4 for w in words) / max(1, len(words))
        never = sum(train[w] == 0 for w in words) / max(1, len(words))
        stats[f"{split}: % of running words seen 4 times or more in train"] = round(100 * often, 2)
        stats[f"{split}: % of running words never in train"] = round(100 * never, 2)
    for kind in KIND_SHARE:
        stats[f"% {kind}"] = round(100 * sum(r["kind"] == kind for r in rows) / len(rows), 1)
    return stats


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the JSON lines file to write")
    parser.add_argument("--train", type=int, default=2700, help="training sentences (default: %(default)s)")
    parser.add_argument("--dev", type=int, default=96, help="development sentences (default: %(default)s)")
    parser.add_argument("--test", type=int, default=160, help="test sentences (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the choice (default: %(default)s)")
    parser.add_argument("--passes", type=int, default=4, help="passes over the training part (default: %(default)s)")
    parser.add_argument("--candidates", type=int, default=12, help="candidates a sentence (default: %(default)s)")
    parser.add_argument("--rare", type=int, default=2000, help="rare words to use (default: %(default)s)")
    parser.add_argument(
        "--floor", type=int, default=3, help="drop template words rarer than this (default: %(default)s)"
    )
    parser.add_argument(
        "--rare-share", type=float, default=0.15, help="share of dev and test sentences with a rare word"
    )
    parser.add_argument("--lexicon", type=Path, default=HERE / "lexicon.yaml", help="word classes")
    parser.add_argument("--templates", type=Path, default=HERE / "templates.yaml", help="sentence templates")
    args = parser.parse_args(argv)

    builder = Builder(Grammar(args.lexicon, args.templates), args.seed, args.candidates, args.rare, (3, 16))
    for turn in range(args.passes):
        train = builder.training(args.train)
        if turn + 1 < args.passes:
            print(f"pass {turn + 1}: {builder.ban(args.floor)} scarce words left out", file=sys.stderr)
    test = builder.held_out(args.test, args.rare_share)
    dev = builder.held_out(args.dev, args.rare_share)
    rng = random.Random(args.seed + 1)
    rows = [
        *deal(rng, dev, "dev", DEV_VOICES),
        *deal(rng, test, "test", TEST_VOICES),
        *deal(rng, train, "train", TRAIN_VOICES),
    ]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    part = args.output.with_name(args.output.name + ".part")
    part.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    part.replace(args.output)
    print(json.dumps(statistics(rows), indent=1), file=sys.stderr)


if __name__ == "__main__":
    main()
