// A page that was opened from a file may not read others, from which the search would take its excerpts.
if (location.protocol === 'file:') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
