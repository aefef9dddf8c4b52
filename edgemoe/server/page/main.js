// The page: its parts, and what is chosen above the conversation.
import { models } from "./api.js";
import { Conversation } from "./conversation.js";
import { EnginePanel } from "./engine.js";
import { byId, make } from "./nodes.js";

/** On narrow screens one of the two parts is shown. */
function show(view) {
  document.body.dataset.view = view;
  for (const name of ["chat", "engine"]) byId(`show-${name}`).setAttribute("aria-pressed", String(name === view));
}

async function offerModels() {
  const names = await models();
  byId("model").replaceChildren(...names.map((name) => make("option", {}, name)));
  byId("private-choice").hidden = !names.includes("auto");
}

show("chat");
for (const name of ["chat", "engine"]) byId(`show-${name}`).addEventListener("click", () => show(name));
byId("more").addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  event.stopPropagation();
  byId("more").open = false;
  byId("more").firstElementChild.focus();
});
new Conversation();
byId("prompt").focus();
offerModels().catch((error) => {
  byId("connection").textContent = error.message;
  byId("connection").hidden = false;
});
new EnginePanel().run();
