// the widgets' own scripts lie beside this one, on whatever page and however it was opened
window.runtime = new URL('runtime/', document.currentScript.src).href
requirejs.config({baseUrl: window.runtime})
// anywidget gives up on a widget for which a busy page has no time within two seconds
window.mlipkitPlotly.then(() => {
  const embed = document.createElement('script')
  embed.src = window.runtime + 'embed-amd.js'
  document.body.append(embed)
})
