// A page that was opened from a file may not read others, from which the search would take its excerpts.
if (location.protocol === 'file:') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// What scrolls sideways can be scrolled with the keyboard too.
function reachScrolling() {
  for (const box of document.querySelectorAll('pre, .table-wrapper, div.cell_output .text_html')) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute('tabindex');
  }
}
addEventListener('load', reachScrolling);
addEventListener('resize', reachScrolling);
document.addEventListener('toggle', reachScrolling, true);  // a fold that opens shows more of them
