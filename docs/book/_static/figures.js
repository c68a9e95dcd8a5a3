// a figure is drawn as it is read, when the column is not laid out yet: it then fits
addEventListener('load', () => dispatchEvent(new Event('resize')))
