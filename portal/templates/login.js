(function () {
  var field = document.getElementById("password"), button = document.getElementById("show");
  button.hidden = false;
  if (field.form.dataset.enter) field.form.submit();
  button.onclick = function () {
    var hidden = field.type === "password";
    field.type = hidden ? "text" : "password";
    button.textContent = hidden ? button.dataset.hide : button.dataset.show;
    field.focus();
  };
})();
