"use strict";
// The dashboard. Whatever comes from the daemon is put into the page as text (textContent), never as HTML; the policy of
// the page (Trusted Types) has the browser see to it as well.

const PAUSE_MS = 300; // between two looks, however much happens
const RETRY_MS = 2000; // after a look that failed
const KEY = "p2p-comm-key", MAY = "p2p-comm-may-answer", WHY = "p2p-comm-why-not";

const ANSWERED = 5; // answered questions that stay in sight

const state = { cursor: 0, answered: [], open: null, said: "" };
const find = (selector, inside = document) => inside.querySelector(selector);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** An element with classes, text or children. */
function make(name, classes = "", ...content) {
  const element = document.createElement(name);
  if (classes) element.className = classes;
  element.append(...content.filter((part) => part !== null && part !== undefined && part !== ""));
  return element;
}

async function ask(path, body) {
  const options = { headers: { "X-P2P-Key": sessionStorage.getItem(KEY) || "" }, cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  const reply = await response.json();
  if (reply.error) throw Object.assign(new Error(reply.error.message), { hint: reply.error.hint, status: response.status });
  return reply;
}

function complain(error, place = find("#problem")) {
  place.hidden = !error;
  if (error) place.textContent = error.hint ? `${error.message} — ${error.hint}` : error.message;
}

function pill(text, mood = "") {
  return make("span", `pill ${mood}`, text);
}

/** A time as this machine writes it, and the whole of it for who asks. */
function time(text) {
  if (!text) return "";
  const element = make("time", "dim", new Date(text).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }));
  element.dateTime = text;
  element.title = text;
  return element;
}

/** Words of somebody else: marked, on their own, and never more than text. */
function quotation(text, name = "q") {
  return make(name, "words peer", text);
}

const MOODS = { contact: "good", known: "", stranger: "warn" };
const tier = (word) => pill(word, MOODS[word]);
const short = (key) => `${key.slice(0, 16)}…${key.slice(-6)}`;

function peerLine(peer) {
  const npub = make("span", "key dim", short(peer.npub));
  npub.title = peer.npub;
  const name = peer.name === peer.id ? "" : make("bdi", "", ` (${peer.name})`);
  const line = make("div", "row", make("h3", "", make("bdi", "", peer.id), name), tier(peer.tier), npub);
  if (peer.looks_like) line.append(pill(`looks like ${peer.looks_like}, which is another key`, "bad"));
  return line;
}

function callCard(call) {
  const ended = call.state === "ended";
  const word = ended ? call.end_reason || "ended" : call.away ? "away" : call.state;
  const mood = ended ? "" : call.state === "connected" && !call.away ? "good" : "warn";
  const button = make("button", "", "What was said");
  button.type = "button";
  button.addEventListener("click", () => open(call));
  button.setAttribute("aria-label", `What was said in the call with ${call.peer.id}`);
  const facts = make("div", "row", make("span", "dim", call.direction === "in" ? "called us" : "we called"),
    pill(word, mood), call.protocol === "legacy" ? pill("legacy", "warn") : "", time(call.started_at),
    make("span", "dim grow", `${call.messages} message${call.messages === 1 ? "" : "s"}`), button);
  const card = make("article", "card", peerLine(call.peer), call.topic ? quotation(call.topic) : "", facts);
  card.dataset.call = call.call;
  return card;
}

/** A question that the owner can decide, kept as it is while it is being answered. */
function questionCard(ticket) {
  const card = make("article", "card question", make("p", "words question-text", ticket.question));
  card.dataset.ticket = ticket.ticket;
  const form = make("form", "row"), refused = make("p", "note bad");
  refused.setAttribute("role", "alert");
  refused.hidden = true;
  const may = sessionStorage.getItem(MAY) === "true";
  const say = async (answer) => {
    const parts = form.querySelectorAll("button, input");
    parts.forEach((part) => (part.disabled = true));
    try {
      await ask("/api/answer", { ticket: ticket.ticket, answer });
      card.replaceChildren(make("p", "words question-text", ticket.question), pill(`answered: ${answer}`, "good"));
      state.answered = [ticket, ...state.answered].slice(0, ANSWERED);
    } catch (error) {
      parts.forEach((part) => (part.disabled = false));
      complain(error, refused);
    }
  };
  if (ticket.options.length) {
    ticket.options.forEach((option, place) => {
      const button = make("button", place ? "" : "primary", option);
      button.type = "button";
      button.disabled = !may;
      button.addEventListener("click", () => say(option));
      form.append(button);
    });
  } else {
    const input = make("input");
    input.setAttribute("aria-label", "Your answer");
    input.placeholder = "Your answer";
    input.required = true;
    const button = make("button", "primary", "Answer");
    button.disabled = input.disabled = !may;
    form.append(input, button);
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const input = find("input", form);
    if (input && input.value.trim()) say(input.value.trim());
  });
  const asked = make("div", "row", make("span", "dim", ticket.call ? `in call ${ticket.call}` : "outside of calls"),
    time(ticket.at), ticket.state === "no-owner" ? pill("no way to you is configured", "warn") : "");
  card.append(form, refused, asked);
  return card;
}

/** Puts cards into a section, and leaves those alone that are there already. */
function fill(selector, items, key, card, keep = false) {
  const section = find(selector), list = find(".list", section);
  const old = new Map([...list.children].map((element) => [element.dataset.key, element]));
  const next = items.map((item) => {
    const name = String(key(item)), is = JSON.stringify(item), before = old.get(name);
    if (before && (keep || before.dataset.is === is)) return before;
    const element = card(item);
    element.dataset.key = name;
    element.dataset.is = is;
    return element;
  });
  if (next.length !== list.children.length || next.some((element, place) => element !== list.children[place])) {
    list.replaceChildren(...next);
  }
  return next.length;
}

function relayCard(relay) {
  const calls = relay.session && !relay.session.connected ? pill("not for calls", "warn") : "";
  const card = make("div", "card", make("div", "row", make("span", "key grow", relay.url),
    pill(relay.connected ? "connected" : "down", relay.connected ? "good" : "bad"), calls,
    relay.rtt_ms === null ? "" : make("span", "dim", `${Math.round(relay.rtt_ms)} ms`)));
  for (const words of [relay.error, relay.refused ? relay.refusal : null]) if (words) card.append(quotation(words));
  return card;
}

function contactCard(contact) {
  const card = make("div", "card", make("div", "row", make("h3", "grow", make("bdi", "", contact.name || contact.agent_id || "unnamed")),
    tier(contact.tier), contact.verified ? pill("verified", "good") : "", contact.blocked ? pill("blocked", "bad") : ""),
    make("span", "key dim", contact.fingerprint));
  if (contact.claimed_by.length) card.append(pill("another key claims this id, and is blocked", "bad"));
  return card;
}

function facts(pairs) {
  find("#agent dl").replaceChildren(...pairs.flatMap(([term, value]) => [make("dt", "", term), make("dd", "", value)]));
}

function show(all) {
  const { status, inbox, calls, contacts } = all, { agent, daemon } = status;
  find("#agent-name").textContent = agent.name;
  find("#agent-id").textContent = agent.name === agent.id ? short(agent.npub) : `${agent.id} · ${short(agent.npub)}`;
  find("#agent-id").title = agent.npub;
  document.title = (inbox.questions.length ? `(${inbox.questions.length}) ` : "") + `${agent.name} · p2p-comm`;
  const up = status.relays.filter((relay) => relay.connected).length;
  const link = find("#link");
  link.textContent = `${up} of ${status.relays.length} relays`;
  link.className = `pill ${up ? "good" : "bad"}`;
  const waits = new Set(inbox.questions.map((ticket) => ticket.ticket));
  const answered = state.answered.filter((ticket) => !waits.has(ticket.ticket));
  fill("#questions", [...inbox.questions, ...answered], (ticket) => ticket.ticket, questionCard, true);
  fill("#live", status.calls, (call) => call.call, callCard);
  fill("#calls", calls.calls.filter((call) => call.state === "ended"), (call) => call.call, callCard);
  const waiting = [...inbox.queue.map((call) => ({ call })), ...inbox.mail.map((mail) => ({ mail }))];
  find("#strangers").hidden = !fill("#strangers", waiting, ({ call, mail }) => (call ? call.call : mail.message),
    ({ call, mail }) => (call ? callCard(call) : make("article", "card", make("div", "row", tier(mail.tier),
      make("span", "key dim", short(mail.peer)), time(mail.at)), quotation(mail.text, "blockquote"))));
  fill("#relays", status.relays, (relay) => relay.url, relayCard);
  fill("#contacts", contacts.contacts, (contact) => contact.pubkey, contactCard);
  facts([
    ["Fingerprint", make("span", "key", agent.fingerprint)],
    ["Capabilities", agent.capabilities.join(", ") || "none announced"],
    ["Unread", `${status.unread} message${status.unread === 1 ? "" : "s"}`],
    ["On their way", `${status.outbox.queued} queued, ${status.outbox.failed} failed`],
    ["Strangers", status.door.strangers],
    ["Ways to you", status.owner.map((way) => `${way.channel}${way.error ? ` (${way.error})` : ""}`).join(", ") || "only this page and the terminal"],
    ["Home", make("span", "key", agent.home)],
    ["Daemon", `${daemon.version}, process ${daemon.pid}`],
  ]);
}

const SPEAKERS = { me: "this agent", owner: "you, the owner", peer: "the other agent" };
const KINDS = { escalation: "asks its owner", system: "says that its owner answered" };

function messageLine(message) {
  const file = message.file ? `file ${message.file.name}, ${message.file.size} bytes` : "";
  const ours = message.from !== "peer";
  const head = make("div", "row", make("strong", "", SPEAKERS[message.from]), ours ? "" : tier(message.tier),
    file || KINDS[message.kind] ? make("span", "dim", file || (message.from === "owner" ? "decided" : KINDS[message.kind])) : "",
    time(message.at), make("span", "dim", ours ? message.state : ""), make("span", "key dim", message.message.slice(0, 8)));
  return make("li", message.from, head, ours ? make("p", "words", message.text) : quotation(message.text, "blockquote"));
}

async function open(call) {
  state.open = call;
  state.said = "";
  const section = find("#conversation");
  find(".about", section).textContent = `call ${call.call} with ${call.peer.id}`;
  find(".messages", section).replaceChildren();
  section.hidden = false;
  try {
    await listen();
  } catch (error) {
    complain(error);
  }
  section.scrollIntoView({ block: "start" });
  find(".close", section).focus();
}

/** Shows what was said in the call that is open. */
async function listen() {
  const call = state.open;
  if (!call) return;
  const said = await ask(`/api/transcript/${call.call}`);
  const is = JSON.stringify(said.messages);
  if (state.open !== call || state.said === is) return;
  state.said = is;
  find("#conversation .messages").replaceChildren(...said.messages.map(messageLine));
}

function readOnly() {
  const why = sessionStorage.getItem(WHY);
  const note = find("#read-only");
  note.hidden = !why;
  if (why) note.textContent = `Read-only: ${why}. To answer, run p2p-comm dashboard in a terminal.`;
}

async function begin() {
  const token = location.hash.slice(1);
  if (!token) return;
  // Neither the history nor whoever looks over a shoulder needs it any more.
  history.replaceState(null, "", "/");
  const told = await ask("/api/session", { token });
  sessionStorage.setItem(KEY, told.key);
  sessionStorage.setItem(MAY, String(told.may_answer));
  sessionStorage.setItem(WHY, told.why_not || "");
}

async function main() {
  find("#conversation .close").addEventListener("click", () => {
    state.open = null;
    find("#conversation").hidden = true;
  });
  try {
    await begin();
  } catch (error) {
    return complain(error);
  }
  readOnly();
  for (;;) {
    try {
      const all = await ask(`/api/state/${state.cursor}`);
      state.cursor = all.cursor;
      complain(null);
      show(all);
      await listen();
      document.documentElement.dataset.ready = "true";
      await pause(PAUSE_MS);
    } catch (error) {
      complain(error);
      find("#link").textContent = "out of reach";
      find("#link").className = "pill bad";
      if (error.status === 401) return;
      await pause(RETRY_MS);
    }
  }
}

main();
