// A content script can't be a module itself, so it fetches one; the same one however often it is run.
import(chrome.runtime.getURL('watch.js')).then(({ start }) => start());
