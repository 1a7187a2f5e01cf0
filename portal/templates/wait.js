(function () {
  var again = document.querySelector("[data-again]");
  var timer = again && setInterval(function () {
    fetch(location.pathname).then(function (answer) {
      if (!answer.ok) return;
      if (answer.redirected) location.replace(answer.url);
      return answer.text();
    }).then(function (text) {
      var page = new DOMParser().parseFromString(text || "", "text/html");
      var fresh = page.querySelector("main");
      if (!fresh || page.querySelector("[data-again]")) return;
      clearInterval(timer);
      document.title = page.title;
      document.querySelector("main").replaceWith(fresh);
      var heading = fresh.querySelector("h1");
      heading.tabIndex = -1;
      heading.focus();
    }).catch(function () {});
  }, again.dataset.again * 1000);
})();
