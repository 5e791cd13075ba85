"use strict";
// Reads the description for programs and shows it to people. Every text is set as text, never as markup.
(async () => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, props = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(props)) {
      if (key === "class") element.className = value;
      else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value !== undefined) element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== undefined && child !== null));
    return element;
  };
  // Words in backticks are code; everything else is text.
  const worded = (text) => text.split(/(`[^`]+`)/).map((part) => (part.startsWith("`") && part.length > 1 ? make("code", {}, part.slice(1, -1)) : part));
  const kept = (key) => sessionStorage.getItem("linkspan." + key) || "";
  const keep = (key, value) => (value ? sessionStorage.setItem("linkspan." + key, value) : sessionStorage.removeItem("linkspan." + key));

  $("origin").textContent = location.origin;
  let spec;
  try {
    spec = await (await fetch("/v1/openapi.json")).json();
  } catch {
    $("operations").replaceChildren(make("p", { class: "none" }, "The description could not be read. Is the server still there?"));
    return;
  }
  $("version").textContent = spec.info.version;

  const follow = (schema) => {
    let seen = 0;
    while (schema && schema.$ref && seen++ < 20) schema = schema.$ref.slice(2).split("/").reduce((at, key) => at && at[key], spec);
    return schema || {};
  };
  const branches = (schema) => (schema.anyOf || schema.oneOf || []).map(follow).filter((one) => one.type !== "null");
  const kind = (given) => {
    const schema = follow(given);
    const some = branches(schema);
    if (some.length === 1) return kind(some[0]);
    if (some.length) return [...new Set(some.map(kind))].join(" or ");
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.enum) return schema.enum.filter((v) => v !== null).map((v) => JSON.stringify(v)).join(" | ");
    const types = [].concat(schema.type || []).filter((t) => t !== "null");
    if (types[0] === "array") return "list of " + (schema.items ? kind(schema.items) : "values");
    return types.join(" or ") + (schema.format && schema.format !== "password" ? ` (${schema.format})` : "") || "any value";
  };
  // The object within: itself, a list's item, or the only alternative.
  const inner = (given) => {
    const schema = follow(given);
    if (schema.properties) return schema;
    if (schema.items) return inner(schema.items);
    const some = branches(schema);
    return some.length === 1 ? inner(some[0]) : undefined;
  };
  const fieldList = (schema, depth) => {
    const must = schema.required || [];
    const items = Object.entries(schema.properties || {}).map(([name, raw]) => {
      const field = follow(raw);
      const text = raw.description || field.description;
      const below = depth < 3 ? inner(raw) : undefined;
      return make("li", {}, make("b", {}, name), make("span", { class: "kind" }, kind(raw)),
        must.includes(name) ? make("span", { class: "must" }, "required") : undefined,
        field["x-secret"] ? make("span", { class: "kind" }, "secret") : undefined,
        field.default !== undefined && field.default !== null ? make("span", { class: "kind" }, "default " + JSON.stringify(field.default)) : undefined,
        text ? make("p", {}, ...worded(text)) : undefined,
        below && Object.keys(below.properties).length ? fieldList(below, depth + 1) : undefined);
    });
    return make("ul", { class: "fields" }, ...items);
  };
  const sample = (given, depth = 0) => {
    const schema = follow(given);
    if (schema.examples && schema.examples.length) return schema.examples[0];
    if (schema.default !== undefined && schema.default !== null) return schema.default;
    if (schema.const !== undefined) return schema.const;
    if (schema.enum) return schema.enum.find((v) => v !== null);
    const some = branches(schema);
    if (some.length) return sample(some[0], depth);
    const type = [].concat(schema.type || []).find((t) => t !== "null");
    if (type === "array") return depth > 2 ? [] : [sample(schema.items || {}, depth + 1)];
    if (type === "integer" || type === "number") return schema.minimum || 0;
    if (type === "boolean") return true;
    if (type === "string") return schema["x-secret"] ? "…" : "text";
    const must = schema.required || [];
    const named = Object.entries(schema.properties || {}).filter(([name]) => depth === 0 ? must.includes(name) : true);
    return depth > 3 ? {} : Object.fromEntries(named.map(([name, field]) => [name, sample(field, depth + 1)]));
  };
  const painted = (text) => {
    const code = make("code");
    const token = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;
    let last = 0;
    for (const m of text.matchAll(token)) {
      code.append(text.slice(last, m.index), make("span", { class: m[2] ? "k" : m[1] ? "s" : m[3] ? "l" : "n" }, m[1] || m[3] || m[4]), m[2] || "");
      last = m.index + m[0].length;
    }
    code.append(text.slice(last));
    return code;
  };
  const codeBox = (text, json) => {
    const copy = make("button", { class: "copy", type: "button", onclick: async () => {
      await navigator.clipboard.writeText(text);
      copy.textContent = "copied";
      setTimeout(() => (copy.textContent = "copy"), 1200);
    } }, "copy");
    return make("pre", { class: "code", tabindex: "0" }, json ? painted(text) : make("code", {}, text), copy);
  };
  const pathText = (path) => {
    const span = make("span", { class: "path" });
    path.split(/(\{[^}]+\})/).forEach((part) => span.append(part.startsWith("{") ? make("i", {}, part) : part));
    return span;
  };
  const shell = (text) => "'" + text.replaceAll("'", "'\\''") + "'";
  const curl = (op) => {
    const lines = ["curl" + (op.method === "get" ? "" : " -X " + op.method.toUpperCase()) + " " + location.origin + op.path.replaceAll(/[{}]/g, "")];
    if (op.security.length) lines.push('-H "Authorization: Bearer $LINKSPAN_KEY"');
    const body = bodyOf(op);
    if (body) lines.push("-H 'Content-Type: application/json'", "-d " + shell(JSON.stringify(sample(body), null, 2)));
    return lines.join(" \\\n  ");
  };
  const bodyOf = (op) => op.requestBody && op.requestBody.content["application/json"] && op.requestBody.content["application/json"].schema;
  const answerOf = (op) => {
    const [status, answer] = Object.entries(op.responses)[0];
    const content = Object.values(follow(answer).content || {});
    return { status, description: follow(answer).description, schema: content.length ? content[content.length - 1].schema : undefined };
  };

  const tryOut = (op, parameters) => {
    const inputs = parameters.map((p) => {
      const input = make("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: p.required ? "required" : kind(p.schema) });
      return [p, input, make("label", {}, make("span", {}, p.name), " · " + p.in, input)];
    });
    const body = bodyOf(op);
    const text = body ? make("textarea", { spellcheck: "false", "aria-label": "Body" }) : undefined;
    if (text) text.value = JSON.stringify(sample(body), null, 2);
    const status = make("span", { class: "status", role: "status" });
    const answer = make("div", { class: "answer" });
    const send = async () => {
      let path = op.path;
      const query = new URLSearchParams();
      const headers = {};
      for (const [p, input] of inputs) {
        if (p.in === "path") path = path.replace(`{${p.name}}`, encodeURIComponent(input.value));
        else if (p.in === "query" && input.value) query.append(p.name, input.value);
        else if (p.in === "header" && input.value) headers[p.name] = input.value;
      }
      if (kept("token")) headers.Authorization = "Bearer " + kept("token");
      if (kept("project")) headers["Linkspan-Project"] = kept("project");
      if (text && text.value.trim()) headers["Content-Type"] = "application/json";
      const started = performance.now();
      status.className = "status";
      status.textContent = "…";
      try {
        const url = path + (query.size ? "?" + query : "");
        const response = await fetch(url, { method: op.method.toUpperCase(), headers, body: text && text.value.trim() ? text.value : undefined });
        const said = await response.text();
        let shown = said;
        try { shown = JSON.stringify(JSON.parse(said), null, 2); } catch { /* not JSON: shown as it is */ }
        status.className = "status " + (response.ok ? "good" : "bad");
        status.textContent = `${response.status} ${response.statusText} · ${Math.round(performance.now() - started)} ms`;
        answer.replaceChildren(shown ? codeBox(shown, true) : "");
      } catch (error) {
        status.className = "status bad";
        status.textContent = "no answer: " + error.message;
      }
    };
    return make("div", { class: "try" }, ...inputs.map((i) => i[2]), text,
      make("div", { class: "row" }, make("button", { class: "go", type: "button", onclick: send }, "Send"), status), answer);
  };

  const inside = (op) => {
    const parameters = (op.parameters || []).map(follow);
    const own = parameters.filter((p) => p.in !== "header");
    const body = bodyOf(op);
    const answer = answerOf(op);
    const shape = answer.schema ? inner(answer.schema) : undefined;
    const facts = [
      op.security.length ? op["x-scope"] ? `needs ${op["x-scope"]} · ${op["x-least-role"]}` : "needs a sign-in" : "for everybody",
      op["x-command"],
    ].filter(Boolean);
    const asFields = (list) => fieldList({
      properties: Object.fromEntries(list.map((p) => [p.name, { ...p.schema, description: p.description || p.schema.description }])),
      required: list.filter((p) => p.required).map((p) => p.name),
    }, 2);
    const left = make("div", {}, make("div", { class: "facts" }, ...facts.map((f) => make("span", { class: "fact" }, f))),
      own.length ? make("h3", {}, "Address") : undefined, own.length ? asFields(own) : undefined,
      body ? make("h3", {}, "Body") : undefined, body ? fieldList(follow(body), 0) : undefined,
      make("h3", {}, `Answer · ${answer.status}`), make("p", { class: "small" }, ...worded(answer.description)),
      shape ? fieldList(shape, 0) : undefined);
    const right = make("div", {}, make("h3", {}, "From a shell"), codeBox(curl(op)),
      op["x-command"] ? codeBox(op["x-command"]) : undefined,
      make("h3", {}, "Try it"), tryOut(op, own));
    return make("div", { class: "inside" }, left, right);
  };

  const all = [];
  for (const [path, item] of Object.entries(spec.paths)) {
    for (const [method, op] of Object.entries(item)) all.push({ ...op, path, method });
  }
  const hidden = new Set(["docs", "docs.style", "docs.script", "home"]);
  const shown = all.filter((op) => !hidden.has(op.operationId));
  const groups = new Map();
  for (const op of shown) groups.set(op.tags[0], [...(groups.get(op.tags[0]) || []), op]);

  const nav = $("nav");
  const list = make("div");
  for (const [name, operations] of groups) {
    const links = [make("h2", {}, name)];
    const section = make("section", { class: "group", id: "tag-" + name.replaceAll(" ", "-") }, make("h2", {}, name));
    for (const op of operations) {
      const id = op.operationId;
      const card = make("details", { class: "op", id }, make("summary", {}, make("span", { class: "verb " + op.method }, op.method.toUpperCase()),
        pathText(op.path), make("span", { class: "doc" }, ...worded(op.summary))));
      card.addEventListener("toggle", () => {
        if (card.open && card.children.length === 1) card.append(inside(op));
      });
      const link = make("a", { href: "#" + id }, make("span", { class: "verb " + op.method }, op.method === "delete" ? "DEL" : op.method.toUpperCase()), id.includes(".") ? id.split(".").slice(1).join(" ") : id);
      links.push(link);
      section.append(card);
      Object.assign(op, { card, link, section, text: `${op.method} ${op.path} ${id} ${op.summary}`.toLowerCase() });
    }
    nav.append(make("div", {}, ...links));
    list.append(section);
  }
  const none = make("p", { class: "none" }, "Nothing fits. Try another word.");
  none.hidden = true;
  $("operations").replaceChildren(list, none);

  const search = () => {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    let any = false;
    for (const op of shown) {
      const fits = words.every((word) => op.text.includes(word));
      op.card.hidden = op.link.hidden = !fits;
      op.link.style.display = fits ? "" : "none";
      any = any || fits;
    }
    for (const [, operations] of groups) operations[0].section.hidden = operations.every((op) => op.card.hidden);
    for (const box of nav.children) box.hidden = [...box.querySelectorAll("a")].every((a) => a.hidden);
    none.hidden = any;
  };
  $("find").addEventListener("input", search);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/INPUT|TEXTAREA/.test(event.target.tagName)) {
      event.preventDefault();
      $("find").focus();
    }
  });

  const goTo = () => {
    const op = shown.find((one) => one.operationId === decodeURIComponent(location.hash.slice(1)));
    for (const one of shown) one.link.classList.toggle("here", one === op);
    if (op) {
      op.card.open = true;
      op.card.scrollIntoView();
    }
  };
  addEventListener("hashchange", goTo);
  goTo();

  const who = () => {
    $("who").textContent = kept("token") ? "Signed in · " + (kept("project") || "default") : "Sign in to try";
    $("who").classList.toggle("known", Boolean(kept("token")));
  };
  who();
  $("who").addEventListener("click", () => {
    $("token").value = kept("token");
    $("project").value = kept("project");
    $("signin").returnValue = "";
    $("signin").showModal();
  });
  $("signin").addEventListener("close", () => {
    const choice = $("signin").returnValue;
    if (choice === "keep") {
      keep("token", $("token").value.trim());
      keep("project", $("project").value.trim());
    } else if (choice === "forget") {
      keep("token", "");
      keep("project", "");
    }
    $("token").value = "";
    who();
  });
})();
