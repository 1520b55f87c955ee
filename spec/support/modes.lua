-- Small modes for specs: build one from text, start a session, send messages.

local revision = require("macp.modes.revision")
local source = require("macp.modes.source")

local M = {}

---A mode's source with one message `Put` and the given pieces.
---@param parts table|nil { messages =, state =, rest =, head = } Lua source
function M.source(parts)
  parts = parts or {}
  return (parts.head or "local macp = require 'macp'") .. [[

return {
  id = "ext.spec.v1", version = "1.0.0", title = "Spec", summary = "For specs.", determinism = "semantic-deterministic",
  state = ]] .. (parts.state or "{ items = {}, list = {} }") .. [[,
  messages = {
    ]] .. (parts.messages or [[
    Put = {
      from = "participant",
      payload = "string key = 1 [required, new = items]; int64 n = 2;",
      needs = { { "n is not negative", function(s, p) return p.n >= 0 end } },
      apply = function(s, p, by) s.items[p.key] = { n = p.n, by = by } end,
    },]]) .. [[

  },
  ]] .. (parts.outcomes or 'outcomes = { { action = "spec.completed", positive = true } },') .. (parts.rest or "") .. [[

}]]
end

---Builds a revision; raises with all problems.
---@param files table|string files, or the text of mode.lua
function M.build(files, opts)
  if type(files) == "string" then files = { ["mode.lua"] = files } end
  opts = opts or {}
  opts.root = opts.root or "spec/"
  local rev, problems = revision.build(files, opts)
  if rev == nil then
    local texts = {}
    for i, problem in ipairs(problems) do texts[i] = problem.path .. ":" .. problem.line .. ": " .. problem.text end
    error(table.concat(texts, "\n"), 2)
  end
  rev.quiet = true
  return rev
end

---A shipped mode, by its folder.
function M.shipped(name, opts)
  opts = opts or {}
  opts.root = "modes/" .. name .. "/"
  return assert(revision.build(assert(source.read("modes/" .. name)), opts))
end

---Sends a message that must be accepted.
function M.send(rev, key, by, name, payload, t)
  local verdict, refused = rev:submit(key, name, by, M.encode(rev, name, payload), t or 1)
  if verdict ~= "accepted" then
    error(name .. " by " .. by .. ": " .. tostring(type(refused) == "table" and refused.message or verdict), 2)
  end
end

---Problems of files that do not build, as "line: key: text".
function M.problems(files)
  if type(files) == "string" then files = { ["mode.lua"] = files } end
  local rev, problems = revision.build(files, { root = "" })
  if rev then rev:close() end
  local out = {}
  for i, problem in ipairs(problems) do
    out[i] = problem.line .. ": " .. (problem.key and problem.key .. ": " or "") .. problem.text
  end
  return out
end

---A start record.
function M.start(overrides)
  local start = { initiator = "ann", participants = { "ann", "bob" }, mode_version = "1.0.0",
    configuration_version = "cfg", policy_version = "policy.default", ttl_ms = 60000, t = 0,
    policy = { policy_id = "policy.default", mode = "*", schema_version = 1, rules = {} },
    payload = { intent = "spec", context_id = "ctx", extensions = {}, roots = {} } }
  for key, value in pairs(overrides or {}) do start[key] = value end
  return start
end

---Payload bytes of a message.
function M.encode(rev, name, payload)
  local _, bytes, problem = assert(rev.iso:call("encode_payload", nil, name, payload))
  return assert(bytes, problem)
end

---The state as plain data.
function M.state(rev, key)
  local _, state = assert(rev.iso:call("state", nil, key or "s"))
  return state
end

---A Commitment's payload bytes with everything filled in.
function M.commitment(rev, overrides)
  local payload = { commitment_id = "c1", action = "spec.completed", authority_scope = "spec", reason = "spec",
    mode_version = "1.0.0", configuration_version = "cfg", policy_version = "", outcome_positive = true }
  for key, value in pairs(overrides or {}) do payload[key] = value end
  return M.encode(rev, "Commitment", payload)
end

return M
