// the widgets' own scripts lie beside this one, on whatever page and however it was opened
window.runtime = new URL('runtime/', document.currentScript.src).href
requirejs.config({baseUrl: window.runtime})
// anywidget gives up on a figure whose script is not there within two seconds
window.plotlyWidget.then(() => {
  const embed = document.createElement('script')
  embed.src = window.runtime + 'embed-amd.js'
  document.body.append(embed)
})
