-- What was registered while the store was files, taken over once when the store is one that several machines reach:
-- policies, their tombstones, and modes. What the store knows already stays as it is there. The files are renamed when
-- all of them are in the store; until then every start tries again, so that a crash in between costs nothing.

local fs = require("host.fs")
local log = require("host.log")

local errors = require("macp.core.errors")
local fault = require("macp.core.fault")
local json = require("macp.core.json")
local policy_store = require("macp.runtime.policies.store")
local registered_file = require("macp.modes.registered_file")

local M = {}

local function failed(format, ...) return nil, errors.new("INTERNAL_ERROR", string.format(format, ...)) end

-- Gives files that are done with another name. (yields)
local function put_aside(path, now_ms)
  fault("left_behind.stored") -- and it is not told by the name yet
  local aside = string.format("%s.imported-%d", path, now_ms)
  local ok, err = fs.rename(path, aside, { sync = true })
  if not ok then return failed("%s is imported and cannot be renamed: %s", path, err.message) end
  return aside
end

local function meaning(policy)
  return json.encode({ policy.mode, policy.schema_version, policy.rules }, { sorted = true })
end

-- Why policies cannot be taken over, and how many were. (yields)
local function copy_policies(found, known, place)
  local problems, taken, ids = {}, 0, {}
  for i, problem in ipairs(found.problems) do problems[i] = problem.file .. ": " .. problem.text end
  for _, tombstone in ipairs(known.tombstones) do ids[tombstone.policy_id] = true end
  for _, policy in ipairs(known.policies) do ids[policy.policy_id] = policy end
  for _, policy in ipairs(found.policies) do
    local there = ids[policy.policy_id]
    if there == nil then
      local ok, err = place:put(policy)
      if not ok then return nil, err end
      taken = taken + 1
    elseif there ~= true and meaning(there) ~= meaning(policy) then
      problems[#problems + 1] = string.format("policy_id %q is registered with another meaning", policy.policy_id)
    end
  end
  for _, tombstone in ipairs(found.tombstones) do
    local ok, err = ids[tombstone.policy_id] ~= nil, nil
    if not ok then ok, err = place:bury(tombstone) end
    if not ok then return nil, err end
  end
  return problems, taken
end

-- (yields)
local function import_policies(cfg, place, now_ms)
  local dir = cfg.data_dir .. "/policies"
  if fs.stat(dir) == nil then return true end
  local found, err = policy_store.new(dir):load()
  if found == nil then return failed("policies in %s: %s", dir, err.message) end
  local known
  known, err = place:load()
  if known == nil then return failed("registered policies in %s: %s", place.where, err.message) end
  local problems, taken = copy_policies(found, known, place)
  if problems == nil then return failed("policies of %s into %s: %s", dir, place.where, taken.message) end
  if #problems > 0 and cfg.strict_recovery then
    return failed("policies of %s into %s: %s", dir, place.where, table.concat(problems, "\n"))
  end
  for _, problem in ipairs(problems) do
    log.error("policy.not_imported", { dir = dir, where = place.where, message = problem })
  end
  local aside
  if #problems == 0 then
    aside, err = put_aside(dir, now_ms)
    if aside == nil then return nil, err end
  end
  log.info("policies.imported", { dir = dir, where = place.where, count = taken, renamed = aside })
  return true
end

-- (yields)
local function import_modes(cfg, place, now_ms)
  local path = cfg.data_dir .. "/modes.json"
  if fs.stat(path) == nil then return true end
  local document, err = registered_file.file(path):load()
  if document == nil then return failed("registered modes: %s", err.message) end
  local known
  known, err = place:load()
  if err then return failed("registered modes in %s: %s", place.where, err.message) end
  local is_there = known and json.encode(known, { sorted = true }) == json.encode(document, { sorted = true })
  if known and not is_there then
    log.warn("modes.not_imported", { file = path, where = place.where,
      message = "modes are registered there already: register what is missing, then remove the file" })
    return true
  end
  local ok, aside
  ok, err = true, nil
  if not is_there then ok, err = place:save(document) end
  if not ok then return failed("registered modes of %s into %s: %s", path, place.where, err.message) end
  aside, err = put_aside(path, now_ms)
  if aside == nil then return nil, err end
  log.info("modes.imported", { file = path, where = place.where, count = #document.modes, renamed = aside })
  return true
end

---Takes over what the data directory holds. Nothing happens when the store is that directory. (yields)
---@param cfg table the section `runtime` of the settings
---@param storage macp.runtime.Storage
---@param now_ms integer
---@return true|nil, table? err
function M.import(cfg, storage, now_ms)
  if cfg.memory_only or storage.shared == nil then return true end
  local ok, err = import_modes(cfg, storage.registered, now_ms)
  if ok and cfg.policies_dir == nil then ok, err = import_policies(cfg, storage.policies, now_ms) end
  if not ok then return nil, err end
  return true
end

return M
