// the widgets' own scripts lie beside this one, on whatever page and however it was opened
window.runtime = new URL('runtime/', document.currentScript.src).href
requirejs.config({baseUrl: window.runtime})
