"""The page's template, a Python module because app bundles carry no HTML files."""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sglora-fed: {{ summary.run.name }}</title>
<style>
:root { --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --page: #ffffff; --card: #f6f8fa;
  --mark: #d55e00; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d;
  --page: #0d1117; --card: #151b23; --mark: #ff9d57; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; color: var(--ink);
  background: var(--page); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
p.sub, figcaption, .small { color: var(--soft); font-size: .9rem; }
ul.lead { padding-left: 1.1rem; } ul.lead li { margin: .3rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
  width: 100%; }
th, td { padding: .35rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
tr.group td { color: var(--soft); font-size: .8rem; padding-top: .9rem; border-bottom: 0;
  text-align: left; }
tr.adopted td { font-weight: 650; } tr.adopted td:first-child { color: var(--mark); }
td span { color: var(--soft); font-weight: 400; font-size: .8rem; }
figure { margin: 1.25rem 0 2rem; }
figure img { width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; padding: .5rem; }
figure.narrow img { max-width: 44rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .75rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: .75rem 1rem; }
.card b { display: block; font-size: 1.15rem; }
.card span { color: var(--soft); font-size: .85rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; font-size: .9rem; }
dt { font-family: ui-monospace, monospace; } dd { margin: 0; color: var(--soft); }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
</style>
</head>
<body>
<h1>Adapters from descriptions: {{ summary.run.name }}</h1>
<p class="sub">Each client sent one sentence's embedding and received a LoRA made for its task.
 {{ summary.counts.experts }} experts, {{ summary.counts.clients }} unseen clients,
 {{ summary.run.seeds | length }} seed{{ "" if summary.run.seeds | length == 1 else "s" }}.</p>

<ul class="lead">
{% for line in headline %}<li>{{ line }}</li>
{% endfor %}</ul>

<div class="cards">
<div class="card"><b>{{ summary.bytes_per_client.up | size }} up</b>
 <span>one request</span></div>
<div class="card"><b>{{ summary.bytes_per_client.down | size }} down</b>
 <span>one adapter, half precision</span></div>
{% set made_in = 1000 * summary.seconds.get("generate_per_adapter", 0) %}
<div class="card"><b>{{ "%.2f" | format(made_in) }} ms</b>
 <span>to generate an adapter on the server</span></div>
<div class="card"><b>{{ summary.privacy.mechanism }}</b>
 <span>privacy{% if summary.privacy.epsilon is not none %}: epsilon
 {{ summary.privacy.epsilon }}, delta {{ summary.privacy.delta }}{% else %}: nothing is
 promised{% endif %} ({{ summary.privacy.unit }})</span></div>
</div>

<h2>Methods and splits</h2>
<p class="small">{{ metric }} in per cent, mean over clients [95 % bootstrap interval]. Gap closed:
 share of the way from zero_shot to the oracle.</p>
<div class="scroll"><table>
<thead><tr><th>method</th>{% for split in splits %}<th>{{ split }}</th>{% endfor %}
<th>bytes down</th><th>client s</th></tr></thead>
<tbody>
{% for group, methods in groups %}
<tr class="group"><td colspan="{{ splits | length + 3 }}">{{ group }}</td></tr>
{% for method in methods %}
<tr{{ " class=adopted" if method == adopted }}><td>{{ method }}</td>
{% for split in splits %}{% set r = found.get((method, split)) %}<td>{% if r %}{{ r.mean | percent }}
 <span>[{{ r.ci95[0] | percent }}, {{ r.ci95[1] | percent }}]{% if r.gap_closed is not none %}
 {{ "%.0f" | format(100 * r.gap_closed) }} %{% endif %}</span>{% endif %}</td>{% endfor %}
{% set cost = found.get((method, splits[0])) %}
<td>{{ cost.bytes_down | size if cost else "" }}</td>
<td>{{ "%.2f" | format(cost.client_seconds) if cost }}</td></tr>
{% endfor %}{% endfor %}
</tbody></table></div>

<h2>Figures</h2>
{% for name, caption, data in images %}
<figure{% if name in ("cost.png", "confidence.png") %} class="narrow"{% endif %}>
<img alt="{{ caption }}" src="data:image/png;base64,{{ data }}">
<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}

<h2>What the names mean</h2>
<dl>
{% for group, methods in groups %}{% for method in methods %}
<dt>{{ method }}</dt><dd>{{ meaning.get(method, "a generator of your own") }}</dd>
{% endfor %}{% endfor %}
{% for split in splits %}{% if split in split_meaning %}
<dt>{{ split }}</dt><dd>{{ split_meaning[split] }}</dd>{% endif %}{% endfor %}
</dl>

<h2>The run</h2>
<dl>
<dt>seconds</dt><dd>{{ "%.0f" | format(summary.run.seconds) }} in all;
{% for stage, seconds in summary.seconds.items() if stage != "generate_per_adapter" %}
 {{ stage }} {{ "%.1f" | format(seconds) }}{{ "," if not loop.last }}{% endfor %}</dd>
<dt>seeds</dt><dd>{{ summary.run.seeds | join(", ") }}</dd>
<dt>configuration</dt><dd>config.yaml beside this page, sha256
 {{ summary.run.config_sha256[:16] }}</dd>
<dt>versions</dt><dd>{% for name, number in summary.run.versions.items() %}{{ name }}
 {{ number }}{{ ", " if not loop.last }}{% endfor %}</dd>
<dt>again</dt><dd>the values in clients.csv; <code>sglora-fed report FOLDER</code> draws this page
 from them</dd>
</dl>
</body>
</html>
"""
