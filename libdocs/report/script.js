// Sorts a table when one of its column heads is pressed.
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
