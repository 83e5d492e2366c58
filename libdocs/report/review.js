// One row at a time: shows it, takes an answer by key or press, sends it at once. All texts are shown as text.
const key = new URLSearchParams(location.search).get('key') || ''
const $ = id => document.getElementById(id)
let queue = null, at = -1, row = null, past = [], busy = false

function make(name, text, attributes = {}) {
  const element = document.createElement(name)
  if (text !== undefined) element.textContent = text
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  return element
}

async function ask(path, body) {
  const options = {headers: {'X-Key': key, 'Content-Type': 'application/json'}}
  if (body) Object.assign(options, {method: 'POST', body: JSON.stringify(body)})
  const answer = await fetch(path, options)
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail || `the server says ${answer.status}`)
  return answer.json()
}

function tell(message, wrong) { $('said').textContent = message; $('said').className = wrong ? 'wrong' : '' }

async function guarded(work) {
  if (busy) return
  busy = true
  try { await work() } catch (error) { tell(`Not kept: ${error.message}. Is the program still running?`, true) }
  busy = false
}

function showProgress() {
  const p = queue.progress
  $('bar').max = p.rows
  $('bar').value = p.answered
  const chance = `with a chance of about ${Math.round(p.expected * 100)}%`
  const left = p.judged ? `; labels left that may be wrong: ${p.judged}, ${chance}` : ''
  $('progress').textContent = `${p.answered} of ${p.rows} answered, ${p.changed} changed${left}`
}

function marked(text, parts) {
  const out = document.createDocumentFragment()
  let end = 0
  for (const [from, to, weight] of parts) {
    out.append(text.slice(end, from), make('mark', text.slice(from, to), {class: weight > 0 ? 'for' : 'against'}))
    end = to
  }
  out.append(text.slice(end))
  return out
}

function labelButton(label, number) {
  const button = make('button', undefined, {type: 'button'})
  if (number) button.append(make('kbd', String(number)))
  button.append(make('bdi', label))
  if (label === row.label) button.append(make('small', 'its label'))
  if (label === row.suggested) button.append(make('small', 'suggested'))
  button.addEventListener('click', () => answer(label))
  return button
}

async function show(index, answeredToo) {
  const seen = await ask(`api/rows/${index}`)
  if (seen.answer !== undefined && !answeredToo) {  // by somebody else, since this page was opened
    queue.rows[index].answer = seen.answer
    return false
  }
  row = seen
  at = index
  $('why').textContent = row.why ? `${row.kind}: ${row.why}` : row.kind
  $('text').replaceChildren(marked(row.text, row.speaking))
  $('label').textContent = row.label
  $('its').hidden = $('keep').hidden = !row.label
  $('key').hidden = !row.speaking.length
  $('forName').textContent = row.compared || ''
  $('againstName').textContent = row.label
  $('labels').replaceChildren(...row.choices.map((label, i) => labelButton(label, i + 1)))
  $('near').replaceChildren(...row.near.map(([text, label, cosine]) => {
    const item = make('li')
    item.append(make('b', label), ` ${cosine.toFixed(2)} `, make('bdi', text.slice(0, 400)))
    return item
  }))
  $('nearHead').hidden = !row.near.length
  const answered = queue.rows[index].answer
  $('done').textContent = answered === undefined ? '' : answered === null ? 'Answered: left out' : `Answered: ${answered}`
  $('row').hidden = false
  $('end').hidden = true
  $('find').value = ''
  showProgress()
  $('text').focus({preventScroll: true})
  scrollTo(0, 0)
  return true
}

async function next(from) {
  const open = i => queue.rows[i].answer === undefined && queue.rows[i].skipped !== true
  for (let step = 1; step <= queue.rows.length; step++) {
    const i = (from + step) % queue.rows.length
    if (open(i) && await show(i)) return
  }
  at = -1
  $('row').hidden = true
  $('end').hidden = false
  $('again').hidden = !queue.rows.some(row => row.skipped)
  showProgress()
}

const answer = label => guarded(async () => {
  if (at < 0) return
  const progress = await ask('api/answer', {index: at, new: label})
  queue.rows[at].answer = label
  queue.progress = progress
  past.push(at)
  const said = label === null ? 'Left out.' : label === row.label ? 'Kept.' : `Changed to ${label}.`
  await next(at)
  tell(said)  // last: a key that is pressed before is not taken for an answer to a row that nobody has seen
})

const skip = () => guarded(async () => {
  if (at < 0) return
  queue.rows[at].skipped = true
  await next(at)
  tell('Skipped.')
})

const undo = () => guarded(async () => {
  const index = past.pop()
  if (index === undefined) return tell('Nothing to undo on this page.')
  queue.progress = await ask('api/undo', {index})
  delete queue.rows[index].answer
  await show(index, true)
  tell('Taken back.')
})

const keep = () => row && row.label && answer(row.label)
$('keep').addEventListener('click', keep)
$('skip').addEventListener('click', skip)
$('out').addEventListener('click', () => answer(null))
$('undo').addEventListener('click', undo)
$('again').addEventListener('click', () => { for (const row of queue.rows) delete row.skipped; guarded(() => next(-1)) })
$('find').addEventListener('keydown', event => {
  if (event.key === 'Escape') { event.target.blur(); return }
  if (event.key !== 'Enter') return
  event.preventDefault()
  const wanted = event.target.value.trim().toLowerCase()
  const exact = queue.labels.filter(label => label.toLowerCase() === wanted)
  const near = exact.length ? exact : queue.labels.filter(label => label.toLowerCase().includes(wanted))
  if (wanted && near.length === 1) { event.target.blur(); answer(near[0]) }
  else tell(near.length ? `${near.length} labels have that in their name: go on typing` : 'No such label.', true)
})
document.addEventListener('keydown', event => {
  if (event.target.tagName === 'INPUT' || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !row) return
  if (event.key === 'u') { event.preventDefault(); undo(); return }
  if (at < 0) return
  const number = Number(event.key)
  const act = {k: keep, s: skip, x: () => answer(null), '/': () => $('find').focus()}[event.key]
  if (number >= 1 && number <= row.choices.length) { event.preventDefault(); answer(row.choices[number - 1]) }
  else if (act) { event.preventDefault(); act() }
})

guarded(async () => {
  queue = await ask('api/queue')
  $('allLabels').replaceChildren(...queue.labels.map(label => make('option', undefined, {value: label})))
  $('where').textContent = queue.answers
  await next(-1)
})
