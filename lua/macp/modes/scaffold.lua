-- Scaffold: the folder that `macp modes new` writes. It is small, complete and passes `macp modes check`.

local M = {}

local MODE = [==[
-- @TITLE@: everybody greets once; the initiator then closes the session.
-- Every function gets (s, p, by, c): state, payload, sender, context. `needs` decides, `apply` records.
local macp = require "macp"

return {
  id      = "@ID@",
  version = "1.0.0",
  title   = "@TITLE@",
  summary = "Every participant greets once.",

  participants = { model = "peer", min = 1 },
  determinism  = "semantic-deterministic",

  state = { greeted = {} },                      -- copied for each session; plain data only

  messages = {
    Hello = {
      doc     = "Greets the others.",
      from    = "participant",
      payload = [[
        string text = 1 [required, max = 200];   // proto3 field syntax; the numbers are the wire numbers
      ]],
      needs = {
        { "one greeting per participant", function(s, p, by) return not s.greeted[by] end },
      },
      apply = function(s, p, by) s.greeted[by] = p.text end,
    },
  },

  -- A Commitment resolves the session; it passes when an outcome of its polarity is ready.
  outcomes = {
    { action = "@NAME@.completed", positive = true,
      when = function(s, c) return macp.count(s.greeted) == c.n end },
    { action = "@NAME@.failed", positive = false },
  },
}
]==]

local NORMALIZER = [==[
-- How each message shows up as events of a run. Without this file the defaults of the field lists apply.
return {
  events = {
    Hello = { "proposal.updated", id = function(p, by) return by end, label = function(p) return p.text end },
  },
}
]==]

local REDUCER = [==[
-- What people see under projection.mode.view.
local macp = require "macp"

return {
  render = function(s, c)
    local waiting = macp.array(macp.filter(c.participants, function(who) return not s.greeted[who] end))
    return { greetings = s.greeted, waiting_for = waiting }
  end,
  summary = function(s, c) return macp.count(s.greeted) .. " of " .. c.n .. " greeted" end,
}
]==]

local FIXTURE = [==[
-- A transcript: { sender, "Type", payload } must be accepted, with `reject` it must be refused with that code.
return {
  about        = "everybody greets, once",
  initiator    = "ann",
  participants = { "ann", "bob" },

  { "ann", "Hello",      { text = "hi" } },
  { "ann", "Hello",      { text = "hi again" },          reject = "INVALID_ENVELOPE",
    because = "one greeting per participant" },
  { "eve", "Hello",      { text = "let me in" },         reject = "FORBIDDEN" },
  { "ann", "Commitment", { action = "@NAME@.completed" }, reject = "INVALID_ENVELOPE",
    because = "no positive outcome" },
  { view = { waiting_for = { "bob" } } },
  { "bob", "Hello",      { text = "hello" } },
  { "ann", "Commitment", { action = "@NAME@.completed" } },
  final = "Resolved",
}
]==]

local README = [==[
# @TITLE@

| To | Run |
|---|---|
| check the rules and play the fixtures | `macp modes check @FOLDER@` |
| see who may send what | `macp modes doc @FOLDER@` |
| get the .proto for other languages | `macp modes proto @FOLDER@` |
| serve it, with every save used at once | `macp dev --modes @PARENT@` |
]==]

local FILES = { ["mode.lua"] = MODE, ["normalizer.lua"] = NORMALIZER, ["reducer.lua"] = REDUCER,
  ["fixtures/everybody_greets.lua"] = FIXTURE, ["README.md"] = README }

---Whether a name can become a folder, an id and an action.
function M.check_name(name)
  if name:find("^%l[%l%d_]*$") and #name <= 40 then return true end
  return nil, "a name is lower-case letters, digits and '_', at most 40, beginning with a letter"
end

---The files of a new mode by relative path.
---@param name string
---@param folder string where it will be, for the README
function M.files(name, folder)
  local words = name:gsub("_", " "):gsub("^%l", string.upper)
  local values = { NAME = name, ID = "ext." .. name .. ".v1", TITLE = words, FOLDER = folder,
    PARENT = folder:match("^(.*)/[^/]*$") or "." }
  local out = {}
  for path, text in pairs(FILES) do out[path] = text:gsub("@(%u+)@", values) end
  return out
end

return M
