-- Taking over the data directory of macp-runtime: when MACP_DATA_DIR holds its sessions and our journal has none yet,
-- they are imported at start. First everything is read, converted and replayed without writing; a single problem refuses
-- the start. Then it is written, session by session. The originals are left as they are; an import that a crash
-- interrupted is done again from the beginning.

local log = require("host.log")

local convert = require("macp.runtime.reference.convert")
local files = require("macp.runtime.reference.files")
local json = require("macp.core.json")
local layout = require("macp.runtime.layout")
local recovery = require("macp.runtime.recovery")

local MAX_PROBLEMS = 20
local MAX_REPLACE_BYTES = 16 * 1024 * 1024 -- a larger history is written in portions
local PORTION = 1024

local M = {}

-- What this start has to do: "import", "nothing", or "ignore" when both stores have sessions. (yields)
local function wanted(journal, dir)
  local state
  if journal:count(layout.IMPORT) > 0 then
    local chunk, err = journal:read(layout.IMPORT, 1, 1)
    if chunk == nil then return nil, err end
    state = (json.decode(chunk[1] or "") or {}).state
  end
  if state == "done" or not files.is_there(dir) then return "nothing" end
  if state == "begun" then return "import" end
  for _, key in ipairs(journal:keys()) do
    if layout.is_session(key) then return "ignore" end
  end
  return "import"
end

local function mark(journal, state, count, dir)
  local text = json.encode({ state = state, sessions = count, from = dir }, { sorted = true })
  return journal:replace(layout.IMPORT, { text })
end

-- Records in memory that a loader can read: a history is proven before it is stored.
local function shelf(id, list)
  local shelf_of = {}
  function shelf_of.count(_, key) return key == id and #list or 0 end
  function shelf_of.read(_, _, from, max)
    local chunk = {}
    for i = from, math.min(#list, from + max - 1) do chunk[#chunk + 1] = list[i] end
    return chunk
  end
  return shelf_of
end

-- Facts in which a stored snapshot and the replayed log may differ; the log counts.
local function compare(session, snapshot, metrics)
  if snapshot == nil then return end
  local ids = 0
  for _ in pairs(session.ids or {}) do ids = ids + 1 end
  local policy = snapshot.policy_version ~= "" and snapshot.policy_version or "policy.default"
  local pairs_of = {
    { "state", session.state, convert.STATES[snapshot.state] },
    { "seen_message_ids", session.ids and ids, session.ids and #(snapshot.seen_message_ids or {}) },
    { "participants", #session.participants, #(snapshot.participants or {}) },
    { "mode_version", session.mode_version, snapshot.mode_version },
    { "configuration_version", session.configuration_version, snapshot.configuration_version },
    { "policy_version", session.policy.policy_id, policy },
  }
  for _, entry in ipairs(pairs_of) do
    if entry[2] ~= entry[3] then
      metrics:mismatch()
      log.warn("import.differs", { session_id = session.id, fact = entry[1], log = entry[2], snapshot = entry[3] })
    end
  end
end

-- Reads and converts one session; nil, nil for one without a log. (yields)
local function read_one(parts, item)
  local entries, snapshot = item.read()
  if entries == nil then return nil, snapshot end
  if entries[1] == nil then return nil end
  local list, problem = convert.convert({ modes = parts.modes }, item.id, entries, snapshot)
  return list, problem, snapshot
end

-- Replays what would be written. (yields)
local function prove(parts, item)
  local list, problem, snapshot = read_one(parts, item)
  if list == nil then
    if problem == nil then log.warn("import.empty", { session_id = item.id }) end
    return problem == nil, problem
  end
  local loader = recovery.new({
    journal = shelf(item.id, list), modes = parts.modes, policies = parts.policies, metrics = parts.metrics,
    strict = true,
  })
  local session, err = loader:load(item.id)
  if session == nil then return nil, err.message end
  compare(session, snapshot, parts.metrics)
  loader:release(session)
  return true
end

-- Stores a history; in place of what an interrupted import has left. (yields)
local function store(journal, id, list)
  local bytes = 0
  for _, record in ipairs(list) do bytes = bytes + #record end
  if bytes <= MAX_REPLACE_BYTES then return journal:replace(id, list) end
  local ok, err = true, nil
  if journal:count(id) > 0 then ok, err = journal:delete(id) end
  for i, record in ipairs(list) do
    if not ok then return nil, err end
    local lsn
    lsn, err = journal:append(id, record)
    if lsn == nil then return nil, err end
    if i % PORTION == 0 or i == #list then ok, err = journal:wait(lsn) end
  end
  return ok, err
end

local function refuse(dir, problems)
  local text = table.concat(problems, "\n")
  return nil, {
    code = "IMPORT", message = string.format("the sessions of macp-runtime in %s cannot be imported:\n%s", dir, text),
  }
end

---Imports the sessions of macp-runtime that a data directory holds, if our journal has none. (yields)
---@param parts { dir: string, journal: table, modes: table, policies: table, metrics: table }
---@return integer|nil imported, table? err
function M.import(parts)
  local dir, journal = parts.dir, parts.journal
  local what, err = wanted(journal, dir)
  if what == nil then return nil, err end
  if what == "ignore" then
    log.warn("import.ignored", { dir = dir, reason = "the journal holds sessions already" })
  end
  if what ~= "import" then return 0 end
  local ok, problem = files.check_version(dir)
  if not ok then return refuse(dir, { problem }) end
  local items
  items, problem = files.list(dir)
  if items == nil then return refuse(dir, { problem }) end
  local problems = {}
  for _, item in ipairs(items) do
    ok, problem = prove(parts, item)
    if not ok then problems[#problems + 1] = problem end
    if #problems == MAX_PROBLEMS then break end
  end
  if #problems > 0 then return refuse(dir, problems) end
  ok, err = mark(journal, "begun", #items, dir)
  local imported = 0
  for _, item in ipairs(items) do
    if not ok then return nil, err end
    local list
    list, problem = read_one(parts, item)
    if list then
      ok, err = store(journal, item.id, list)
      imported = imported + 1
    elseif problem then
      return refuse(dir, { problem })
    end
  end
  if ok then ok, err = mark(journal, "done", imported, dir) end
  if not ok then return nil, err end
  log.info("import.done", { dir = dir, sessions = imported })
  return imported
end

return M
