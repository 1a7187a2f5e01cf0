setInterval(function () {
  if (document.hidden) return;
  fetch("/status").then(function (answer) {
    return answer.ok ? answer.text() : Promise.reject();
  }).then(function (text) {
    var fresh = new DOMParser().parseFromString(text, "text/html").getElementById("figures");
    if (fresh) document.getElementById("figures").replaceWith(fresh);
    else location.reload();
  }).catch(function () {});
}, 30000);
