// Asks the server about the text, and shows what it says. Texts and labels become text nodes, never markup.
const $ = id => document.getElementById(id)
const key = new URLSearchParams(location.search).get('key')
const percent = p => (100 * p).toFixed(1) + '%'
let about, asked = 0

for (const link of document.querySelectorAll('a[data-path]')) link.href = link.dataset.path + location.search

function make(tag, cls, ...children) {
  const made = document.createElement(tag)
  if (cls) made.className = cls
  made.append(...children)
  return made
}

async function ask(path, body) {
  const options = {headers: {'X-Key': key, 'Content-Type': 'application/json'}}
  if (body) Object.assign(options, {method: 'POST', body: JSON.stringify(body)})
  let answer, said
  try { answer = await fetch(path, options) } catch { throw new Error('the server does not answer: is it still running?') }
  try { said = await answer.json() } catch { throw new Error(`the server answers with status ${answer.status}`) }
  if (!answer.ok) throw new Error(said.detail)
  return said
}

function verdict(said) {
  if (!said.predictions.length) return ['The text is empty.']
  const least = about.min_confidence, sure = percent(said.confidence)
  if (said.abstained) return [`No prediction: ${sure} is less than the ${percent(least)} that were asked for.`]
  return [make('bdi', 'big', said.prediction), ` ${sure}`, least ? `, at least ${percent(least)} were asked for` : '']
}

function promises(said) {
  return about.thresholds.filter(() => said.predictions.length).map(({accuracy, min_confidence}) => make('li', '',
    `For ${percent(accuracy)} accuracy (--min-confidence ${min_confidence.toFixed(3)}) it would ` +
    (said.confidence < min_confidence ? 'abstain.' : 'answer.')))
}

function bars(said, text) {
  return said.predictions.flatMap((label, i) => {
    const choose = make('button', 'plain', make('bdi', '', label)), bar = make('span', 'bar', make('b'))
    bar.firstChild.style.width = percent(said.scores[i])
    choose.addEventListener('click', () => explain(text, label, asked))
    return [make('dt', '', choose), make('dd', '', bar), make('dd', '', percent(said.scores[i]))]
  })
}

function points(change) { return (change < 0 ? '−' : '+') + (100 * Math.abs(change)).toFixed(1) }

function coloured(parts) {
  const most = Math.max(.02, ...parts.map(part => Math.abs(part.change || 0)))
  return parts.map(part => {
    const span = make('span', '', part.text)
    if (part.change === null) return span
    const strength = .4 * Math.abs(part.change) / most
    span.style.backgroundColor = `rgb(var(--${part.change < 0 ? 'miss' : 'hit'})/${strength.toFixed(3)})`
    span.title = points(part.change)
    return span
  })
}

function strongest(parts, sign) {
  const some = parts.filter(part => sign * part.change > .0005).sort((a, b) => sign * (b.change - a.change)).slice(0, 5)
  return some.length ? some.flatMap((part, i) => [i ? ', ' : '', make('bdi', '', part.text), ' ' + points(part.change)])
    : ['none']
}

function show(id, ...children) {
  $(id).replaceChildren(...children)
  $(id).closest('section').hidden = false
}

function fault(error) {
  $('fault').textContent = error.message
  $('fault').hidden = false
}

async function explain(text, label, turn) {
  try {
    const said = await ask('/explain', {text, label})
    if (turn !== asked) return
    $('label').textContent = said.label
    $('for').replaceChildren(...strongest(said.parts, 1))
    $('against').replaceChildren(...strongest(said.parts, -1))
    show('words', ...coloured(said.parts))
    for (const choose of document.querySelectorAll('.bars button'))
      choose.setAttribute('aria-pressed', choose.textContent === said.label)
  } catch (error) { fault(error) }
}

async function alike(text, turn) {
  const rows = (await ask('/similar', {text})).rows
  if (turn !== asked) return
  show('rows', ...rows.map(row => make('li', '', make('span', 'score', row.cosine.toFixed(2)),
    make('div', '', make('p', 'who', make('bdi', '', row.label)), make('p', 'text', make('bdi', '', row.text))))))
  $('none').hidden = rows.length > 0
}

async function classify() {
  const text = $('text').value, turn = ++asked
  $('fault').hidden = true
  $('go').disabled = true
  for (const section of document.querySelectorAll('main section')) section.hidden = true
  try {
    about ||= await ask('/model')
    const [said] = (await ask('/classify', {texts: [text], top: 10})).answers
    show('bars', ...bars(said, text))
    $('verdict').replaceChildren(...verdict(said))
    $('promises').replaceChildren(...promises(said))
    if (said.predictions.length)
      await Promise.all([explain(text, said.predictions[0], turn), about.train_rows === null || alike(text, turn)])
  } catch (error) { fault(error) }
  $('go').disabled = false
}

$('ask').addEventListener('submit', event => { event.preventDefault(); classify() })
$('text').addEventListener('keydown', event => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); if (!$('go').disabled) classify() }
})
