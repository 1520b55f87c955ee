-- Diff: plays the fixtures of two versions of a mode under both and tells the first message of each whose verdict,
-- state or outcome differs. Behaviour that differs under the same version deserves a new version.

local fixtures = require("macp.modes.fixtures")
local source = require("macp.modes.source")

local SYNTHETIC = 1

local M = {}

local function start_record(fixture)
  return { initiator = fixture.initiator, participants = fixture.participants, policy = fixture.policy,
    mode_version = fixture.mode_version, configuration_version = fixture.configuration_version,
    policy_version = fixture.policy.policy_id, ttl_ms = fixture.ttl_ms, t = 0,
    payload = { intent = "fixture", participants = fixture.participants } }
end

-- What one revision makes of a transcript: a list of { line, text, hash }.
local function trace(rev, fixture)
  local out, key, t = {}, "diff", 0
  local function note(line, text) out[#out + 1] = { line = line, text = text, hash = rev:state_hash(key) or "none" } end
  local ok, rejection = rev:start(key, start_record(fixture))
  if not ok then return { { line = 1, text = "start refused: " .. rejection.code, hash = "none" } } end
  note(1, "started")
  for _, step in ipairs(fixture.steps) do
    if step.kind == "wait" then
      local message = rev:fire(key, t + step.value)
      while message do
        local verdict, refused = rev:submit(key, message.type, message.sender, message.payload, message.at, SYNTHETIC)
        note(fixtures.line_of(step), message.type .. " by the clock: " .. (verdict or refused.code))
        message = verdict == "accepted" and rev:fire(key, t + step.value) or nil
      end
      t = t + step.value
    elseif step.kind == "send" then
      local payload = step.type == "Commitment" and fixtures.fill_commitment(rev, fixture, step.payload, #out)
        or step.payload
      local called, bytes = rev.iso:call("encode_payload", nil, step.type, payload)
      local verdict, refused = rev:submit(key, step.type, step.by, called and bytes or "", t, 0)
      note(fixtures.line_of(step), string.format("%s by %s: %s", step.type, step.by, verdict or refused.code))
      if verdict == "resolved" then break end
    end
  end
  rev:drop(key)
  return out
end

local function first_difference(old, new)
  for i = 1, math.max(#old, #new) do
    local a, b = old[i], new[i]
    if a == nil or b == nil then
      local present = a or b
      return present.line, string.format("%s only under the %s revision", present.text, a and "old" or "new")
    end
    if a.text ~= b.text then return a.line, string.format("%s, before; %s, now", a.text, b.text) end
    if a.hash ~= b.hash then return a.line, a.text .. ": the states differ" end
  end
  return nil
end

-- What one revision makes of recorded messages: a list of { line, text, hash }; lines are records.
local function trace_recorded(rev, transcript)
  local out, key = {}, "diff"
  local function note(index, text)
    out[#out + 1] = { line = index, text = text, hash = rev:state_hash(key) or "none" }
  end
  local ok, rejection = rev:start(key, transcript.start)
  if not ok then return { { line = 1, text = "start refused: " .. rejection.code, hash = "none" } } end
  note(1, "started")
  for _, step in ipairs(transcript.steps) do
    local verdict, refused = rev:submit(key, step.type, step.sender, step.payload, step.t, step.flags)
    note(step.index, string.format("%s by %s: %s", step.type, step.sender, verdict or refused.code))
    if verdict == "resolved" then break end
  end
  rev:drop(key)
  return out
end

---Compares two revisions over a recorded session.
---@param transcript { start: table, steps: { index: integer, type: string, sender: string, payload: string, t: number,
---  flags: integer }[] }
---@return integer|nil record the first whose verdict, state or outcome differs
---@return string|nil text
function M.over_session(old, new, transcript)
  old.quiet, new.quiet = true, true
  local index, text = first_difference(trace_recorded(old, transcript), trace_recorded(new, transcript))
  old.quiet, new.quiet = nil, nil
  return index, text
end

---Compares two revisions over fixtures.
---@param old macp.modes.Revision
---@param new macp.modes.Revision
---@param files table files with the fixtures
---@param root string prefix of their paths in the result
---@return table[] differences { path, line, text }
function M.over_fixtures(old, new, files, root)
  local out = {}
  old.quiet, new.quiet = true, true
  for _, name in ipairs(source.fixtures(files)) do
    local fixture = fixtures.load(new, name, files[name], root .. name)
    if fixture then
      local line, text = first_difference(trace(old, fixture), trace(new, fixture))
      if line then out[#out + 1] = { path = root .. name, line = line, text = text } end
    end
  end
  old.quiet, new.quiet = nil, nil
  return out
end

return M
