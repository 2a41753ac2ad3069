"""The pages' templates, a Python module because app bundles carry no HTML files."""

STYLE = """
:root { --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --page: #fff; --card: #f6f8fa;
  --mark: #b84f00; --good: #1a7f37; --bad: #b42318; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9da7b1; --line: #3d444d;
  --page: #0d1117; --card: #151b23; --mark: #ff9d57; --good: #4ac26b; --bad: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 2.2rem 1.25rem 4rem; color: var(--ink);
  background: var(--page); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .6rem; }
h3 { font-size: 1rem; margin: 2rem 0 .2rem; }
p { margin: .5rem 0; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.lead { font-size: 1.12rem; border-left: 4px solid var(--mark); padding: .1rem 0 .1rem .9rem;
  margin: 1.3rem 0; }
ul.findings { list-style: none; padding: 0; margin: 0; }
ul.findings li { margin: .55rem 0; padding-left: 6.2rem; position: relative; }
.tag { font-size: .78rem; font-weight: 650; border: 1px solid; border-radius: 1rem;
  padding: .05rem .6rem; white-space: nowrap; }
li .tag { position: absolute; left: 0; top: .2rem; }
.ahead { color: var(--good); } .behind { color: var(--bad); } .level { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11.5rem, 1fr));
  gap: .75rem; margin: 1.5rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .7rem 1rem; }
.card b { display: block; font-size: 1.2rem; } .card span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
  width: 100%; }
th, td { padding: .32rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--page); }
thead th { border-bottom: 2px solid var(--line); }
tr.group td { color: var(--soft); font-size: .8rem; padding-top: .9rem; text-align: left; }
tr.adopted td:first-child { color: var(--mark); font-weight: 700; }
td.best b { text-decoration: underline; text-underline-offset: .2em; }
td b { font-weight: 500; } tr.adopted td b { font-weight: 700; }
td small { color: var(--soft); font-size: .78rem; }
td small.gap { display: block; line-height: 1.2; }
figure { margin: .4rem 0 1.6rem; }
figure img { display: block; width: var(--width); max-width: 100%; height: auto;
  min-width: min(48rem, var(--width)); background: #fff;
  border: 1px solid var(--line); border-radius: 8px; padding: .6rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .3rem 1.2rem;
  font-size: .9rem; margin: .5rem 0; }
dt { font-weight: 600; } dl.names dt { font-family: ui-monospace, monospace; font-weight: 400; }
dd { margin: 0; color: var(--soft); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .7rem 1rem; font-size: .85rem; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { padding-top: 1.2rem; } h1 { font-size: 1.4rem; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: .5rem; }
  ul.findings li { padding-left: 0; } li .tag { position: static; display: inline-block; }
  th, td { padding: .32rem .45rem; }
  .cards { grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); } }
@media print { :root { --ink: #000; --soft: #444; --page: #fff; --card: #fff; --mark: #b84f00;
  --good: #1a7f37; --bad: #b42318; --line: #bbb; color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 11px; } .scroll { overflow: visible; }
  th, td { padding: .2rem .35rem; } figure img { min-width: 0; border: 0; padding: 0; }
  h2, h3 { break-after: avoid; } figure, tr, .card { break-inside: avoid; } }
"""

TEMPLATE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sglora-fed: {{ summary.run.name }}</title>
<style>"""
    + STYLE
    + """</style>
</head>
<body>
{% macro plural(count, word) %}{{ count }} {{ word }}{{ "" if count == 1 else "s" }}{% endmacro %}
{% set mechanism = summary.privacy.mechanism %}
{% set epsilon = summary.privacy.epsilon %}
<h1>Adapters from descriptions: {{ summary.run.name }}</h1>
<p class="soft">{{ plural(summary.counts.experts, "expert") }} in the zoo,
 {{ plural(summary.counts.clients, "unseen client") }},
 {{ plural(summary.run.seeds | length, "seed") }}. Each client sent the embedding of one sentence
 {{- "" if mechanism == "none" else ", made private by " ~ mechanism ~ "," }} and received a LoRA
 made for its task.</p>

<p class="lead">{{ lead }}</p>
<ul class="findings">
{% for finding in findings %}
<li><span class="tag {{ finding.verdict }}">{{ finding.verdict }}</span>
 <b>{{ finding.split }}</b>: {{ finding.text }}</li>
{% endfor %}
</ul>
<p class="soft">In brackets: the difference in points. “Certain” means that the 95 % interval of the
 paired difference excludes 0.</p>

<div class="cards">
<div class="card"><b>{{ summary.bytes_per_client.up | size }} up</b>
 <span>a client's request, once</span></div>
<div class="card"><b>{{ summary.bytes_per_client.down | size }} down</b>
 <span>its adapter, once</span></div>
<div class="card"><b>{{ summary.seconds.get("generate_per_adapter", 0) | duration }}</b>
 <span>on the server for one adapter</span></div>
<div class="card"><b>{% if epsilon is not none %}ε = {{ "%g" | format(epsilon) }}
{%- else %}no promise{% endif %}</b><span>privacy of {{ summary.privacy.unit }}</span></div>
</div>

{% for table in tables %}
<h2>{{ table.metric }}: methods and kinds of task</h2>
<p class="soft">Per cent, mean over clients [95 % interval], and the share of the gap from zero_shot
 to the oracle that is closed. Coloured: the adopted generator. Underlined: the best that trains
 nothing on the client.</p>
<div class="scroll"><table>
<thead><tr><th>method</th>{% for split in table.splits %}<th>{{ split }}</th>{% endfor %}
<th>bytes down</th><th>client seconds</th></tr></thead>
<tbody>
{% for group, methods in table.groups %}
<tr class="group"><td colspan="{{ table.splits | length + 3 }}">{{ group }}</td></tr>
{% for method in methods %}
<tr{% if method == adopted %} class="adopted"{% endif %}><td>{{ method }}</td>
{% for split in table.splits %}
{% set r = table.cells.get((method, split)) %}
<td{% if (method, split) in table.best %} class="best"{% endif %}>{% if r -%}
<b>{{ r.mean | percent }}</b> <small>[{{ r.ci95[0] | percent }}, {{ r.ci95[1] | percent }}]</small>
{%- if r.gap_closed is not none and method not in ("zero_shot", "oracle") -%}
<small class="gap">gap {{ "%.0f" | format(100 * r.gap_closed) }} %</small>{% endif %}
{%- endif %}</td>
{% endfor %}
<td>{{ table.cost[method].bytes_down | size }}</td>
<td>{{ "%.2f" | format(table.cost[method].client_seconds) }}</td></tr>
{% endfor %}
{% endfor %}
</tbody></table></div>
{% endfor %}

{% if differences %}
<h2>{{ adopted }} against the others</h2>
<p class="soft">Difference in points of {{ main.metric }}, paired on clients [95 % interval].</p>
<div class="scroll"><table>
<thead><tr><th>{{ adopted }} minus</th>{% for split in main.splits %}<th>{{ split }}</th>
{% endfor %}</tr></thead>
<tbody>
{% for other, row in differences.items() %}
<tr><td>{{ other }}</td>{% for split in main.splits %}
<td>{% if split in row %}<span class="{{ row[split] | verdict }}">{{ row[split] | points }}
 {{ {"ahead": "▲", "behind": "▼", "level": "≈"}[row[split] | verdict] }}</span>{% endif %}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endif %}

<h2>Figures</h2>
{% for title, caption, width, data in images %}
<h3>{{ title }}</h3>
<figure><div class="scroll"><img style="--width: {{ width }}px" alt="{{ title }}: {{ caption }}"
 src="data:image/png;base64,{{ data }}">
</div><figcaption>{{ caption }}</figcaption></figure>
{% endfor %}

<h2>Privacy</h2>
<dl>
<dt>mechanism</dt><dd>{{ mechanism }}
{%- if mechanism == "none" %}: the embedding left the client as it is; whoever reads it can guess
 much of the description{% endif %}</dd>
<dt>epsilon, delta</dt><dd>{{ "none" if epsilon is none else "%g" | format(epsilon) }},
 {{ "none" if summary.privacy.delta is none else "%g" | format(summary.privacy.delta) }}</dd>
<dt>unit</dt><dd>{{ summary.privacy.unit }}</dd>
</dl>

<h2>What the names mean</h2>
<dl class="names">
{% for group, methods in main.groups %}
{% for method in methods %}
<dt>{{ method }}</dt><dd>{{ meaning.get(method, "a generator of your own") }}</dd>
{% endfor %}
{% endfor %}
{% for split in main.splits if split in split_meaning %}
<dt>{{ split }}</dt><dd>{{ split_meaning[split] }}</dd>
{% endfor %}
{% for name, text in glossary.items() %}
<dt>{{ name }}</dt><dd>{{ text }}</dd>
{% endfor %}
</dl>

<h2>The run</h2>
<dl>
<dt>time</dt><dd>{{ summary.run.seconds | duration }} in all
{%- for stage, seconds in summary.seconds.items() if stage != "generate_per_adapter" %}
{{ ": " if loop.first else ", " }}{{ stage }} {{ seconds | duration }}
{%- endfor %}</dd>
<dt>seeds</dt><dd>{{ summary.run.seeds | join(", ") }}</dd>
<dt>virtual clients</dt><dd>at most {{ summary.counts.virtual_clients_per_node }} per node</dd>
<dt>configuration</dt><dd>config.yaml beside this page, sha256
 {{ summary.run.config_sha256[:16] }}</dd>
<dt>versions</dt><dd>{% for name, number in summary.run.versions.items() %}{{ name }}
 {{ number }}{{ ", " if not loop.last }}{% endfor %}</dd>
</dl>
<h3>Do it again</h3>
<pre>{{ summary.run.get("command") or "sglora-fed simulate" }}</pre>
<p class="soft">Every client's values are in clients.csv; <code>sglora-fed report FOLDER</code>
 draws this page from them.</p>
</body>
</html>
"""
)

SWEEP_TEMPLATE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sglora-fed: sweep of {{ runs[0].summary.run.name }}</title>
<style>"""
    + STYLE
    + """</style>
</head>
<body>
<h1>Runs side by side: {{ runs[0].summary.run.name }}</h1>
<p class="soft">Per cent of {{ metric }} with the adapters that clients adopt, mean over clients
 [95 % interval]. Each run's own report has all its methods.</p>
<div class="scroll"><table>
<thead><tr><th>run</th><th>what differs</th><th>adopted</th>
{% for split in splits %}<th>{{ split }}</th>{% endfor %}</tr></thead>
<tbody>
{% for run in runs %}
<tr><td><a href="{{ run.folder }}/report.html">{{ run.folder }}</a></td>
<td>{% for override in run.swept %}{{ override }}{% if not loop.last %}<br>{% endif %}
{% endfor %}</td><td>{{ adopted[loop.index0] }}</td>
{% for split in splits %}
{% set r = run.adopted.get(split) %}
<td>{% if r %}<b>{{ r.mean | percent }}</b>
 <small>[{{ r.ci95[0] | percent }}, {{ r.ci95[1] | percent }}]</small>{% endif %}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<figure><div class="scroll"><img style="--width: {{ width }}px"
 alt="What clients adopt in each run, by kind of task" src="data:image/png;base64,{{ figure }}">
</div><figcaption>Means over clients; the black lines are 95 % bootstrap
 intervals.</figcaption></figure>
<p class="soft">All numbers, those of the other methods too, are in sweep.json. That two intervals
 overlap does not say that two runs are equal.</p>
</body>
</html>
"""
)
