// Sorts a table when one of its column heads is pressed, and filters a table of labels by what is typed.
for (const button of document.querySelectorAll('th button')) button.addEventListener('click', () => {
  const th = button.closest('th'), body = th.closest('table').tBodies[0], column = th.cellIndex
  const up = th.getAttribute('aria-sort') !== 'ascending'
  const value = row => { const cell = row.cells[column], v = cell.dataset.v; return v === undefined ? cell.textContent : Number(v) }
  const compare = (a, b) => typeof a === 'number' ? a - b : a.localeCompare(b)
  const rows = Array.from(body.rows).sort((a, b) => compare(value(a), value(b)) * (up ? 1 : -1))
  for (const other of th.parentNode.cells) other.removeAttribute('aria-sort')
  th.setAttribute('aria-sort', up ? 'ascending' : 'descending')
  body.append(...rows)
})
for (const filter of document.querySelectorAll('.filter')) {
  const rows = Array.from(filter.parentNode.querySelector('tbody').rows), count = filter.querySelector('output')
  const plain = text => text.toLowerCase().replace(/[\s_]+/g, ' ')
  const names = rows.map(row => plain(row.cells[0].querySelector('[title]')?.title ?? row.cells[0].textContent))
  filter.querySelector('input').addEventListener('input', event => {
    const words = plain(event.target.value).split(' ')
    rows.forEach((row, i) => { row.hidden = !words.every(word => names[i].includes(word)) })
    const shown = rows.filter(row => !row.hidden).length
    count.textContent = `${shown.toLocaleString('en')} of ${rows.length.toLocaleString('en')} shown`
  })
  filter.hidden = false
}
