(function () {
  "use strict";
  var form = document.getElementById("filter");
  if (!form) { return; }
  var rows = Array.prototype.slice.call(document.querySelectorAll("#changes tbody tr"));
  var shown = document.getElementById("shown");
  function apply() {
    var words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    var kind = form.elements.kind.value;
    var only = form.elements.unexplained;
    var on = {};
    ["breaking", "numeric", "benign"].forEach(function (severity) {
      on[severity] = form.elements[severity].checked;
    });
    var count = 0;
    rows.forEach(function (row) {
      var text = row.textContent.toLowerCase();
      var keep = on[row.dataset.severity] && (!kind || row.dataset.kind === kind) &&
        !(only && only.checked && row.dataset.explained === "yes") &&
        words.every(function (word) { return text.indexOf(word) >= 0; });
      row.hidden = !keep;
      count += keep ? 1 : 0;
    });
    shown.textContent = count + " of " + rows.length + " shown";
  }
  form.addEventListener("input", apply);
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  document.addEventListener("keydown", function (event) {
    var inField = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !inField) {
      event.preventDefault();
      form.elements.words.focus();
    }
  });
  function openTarget() {
    var target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
  }
  window.addEventListener("hashchange", openTarget);
  window.addEventListener("beforeprint", function () {
    Array.prototype.forEach.call(document.querySelectorAll("details"), function (item) {
      item.open = true;
    });
  });
  openTarget();
  apply();
  document.documentElement.dataset.ready = "yes";
})();
