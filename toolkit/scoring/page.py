"""The frame and the looks of the HTML report."""

from string import Template

LEGEND = (
    "The answer to the speech is compared with the text LLM's own answer to the true transcript (for "
    "transcription with the transcript): <mark>words it has instead or too much</mark>, "
    "<del>words it lacks</del>."
)

STYLE = """
:root { color-scheme: light dark; --ink: #1d2125; --quiet: #626b75; --page: #fcfcfa; --panel: #f2f2ee;
  --rule: #d9d9d2; --bad: #fbe0d3; --bad-ink: #8a2f0a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e8; --quiet: #98a1ab; --page: #15181b;
  --panel: #1e2226; --rule: #343a40; --bad: #4a2415; --bad-ink: #ffb795; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 3rem 1.5rem 5rem;
  background: var(--page); color: var(--ink);
  font: 16px/1.55 ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 3.2rem 0 .8rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.8rem 0 .5rem; }
h4 { font-size: .78rem; font-weight: 600; color: var(--quiet); margin: 0 0 .2rem; }
p { margin: .5rem 0; max-width: 46rem; }
.subtitle, .note, .group, figcaption, small, dt { color: var(--quiet); }
.subtitle { margin: .3rem 0 2rem; overflow-wrap: anywhere; }
.note { font-size: .8rem; }
.group { font-weight: 400; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { padding: .5rem .7rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--rule); }
th:first-child { text-align: left; padding-left: 0; }
thead th { font-size: .82rem; font-weight: 600; line-height: 1.3; vertical-align: bottom;
  border-bottom: 2px solid var(--ink); }
tbody th { font-weight: 500; white-space: nowrap; }
tbody tr:first-child th, tbody tr:first-child td { font-weight: 700; }
small { display: block; font-size: .76rem; font-weight: 400; }
td small, thead small { white-space: nowrap; }
figure { margin: 1rem 0 2rem; }
figure svg { display: block; width: 100%; height: auto; max-width: 50rem; }
figure svg text { font-family: inherit !important; }
figcaption { font-size: .85rem; margin-bottom: .5rem; }
article { background: var(--panel); border-radius: .5rem; padding: 1rem 1.2rem; margin: 1rem 0; }
article h3 { margin: 0 0 .6rem; }
article p, article dd { overflow-wrap: anywhere; white-space: pre-line; }
dl { margin: 0; display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; }
dd { margin: 0; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .8rem 1.6rem;
  margin-top: .8rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
.answers p { margin: 0; }
mark { background: var(--bad); color: var(--bad-ink); border-radius: .2rem; padding: 0 .15em; }
del { color: var(--quiet); }
.empty { font-style: italic; color: var(--quiet); }
.definitions { font-size: .9rem; gap: .7rem 1.2rem; }
code { font-size: .9em; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .6rem; } }
@media print { body { max-width: none; padding: 0; } article { break-inside: avoid; } }
"""

PAGE = Template(
    f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name</title>
<style>{STYLE}</style>
</head>
<body>
<h1>$name</h1>
<p class="subtitle">$subtitle</p>
<p>The same language model answers the speech and the true transcript, under the same prompts. Agreement tells
how near the two come: 100 is the answer to the transcript itself, 0 an answer to some other utterance.</p>
$scores
<p class="note">Values with their 95 % intervals. Deaf: the same model on another utterance's speech; what it
reaches needs no listening. –: not run, or not measurable.</p>
<h2>Training</h2>
$curves
<h2>Worked examples</h2>
<p>$legend</p>
$examples
<h2>In detail</h2>
$details
<h2>Definitions</h2>
<dl class="definitions">$definitions<dt>Versions</dt><dd>$versions</dd></dl>
</body>
</html>
"""
)
