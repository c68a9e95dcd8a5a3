// a figure is drawn as it is read, when the column is not laid out yet, or once its script has come:
// told of a new size, it then fits
let later = 0
const fit = () => dispatchEvent(new Event('resize'))
const figure = node => node.classList && node.classList.contains('plot-container')
new MutationObserver(changes => {
  if (!changes.some(change => [...change.addedNodes].some(figure))) return
  clearTimeout(later)
  later = setTimeout(fit, 100)
}).observe(document, { childList: true, subtree: true })
addEventListener('load', fit)
