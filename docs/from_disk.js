// Pages that are read from the disk may not load the index of the search: there is no box for it then.
if (location.protocol === "file:") {
  document.documentElement.classList.add("from-disk");
}
