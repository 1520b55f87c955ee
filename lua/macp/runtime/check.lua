-- Everything that could refuse a start, looked at without starting: settings, credentials, TLS files, modes, policies,
-- the store. Nothing is created and nothing listens; a store that exists is opened and closed, unless it is in use.

local sys = require("host.sys")

local format = require("macp.runtime.format")
local history = require("macp.runtime.history")
local memory_archive = require("macp.runtime.memory_archive")
local policies = require("macp.runtime.policies.setup")
local preflight = require("macp.runtime.preflight")
local storage = require("macp.runtime.storage")

local M = {}

---@class macp.runtime.Findings
---@field problems string[] each refuses a start, or a mode
---@field unserved integer how many of them are of mode folders, without which a runtime starts
---@field warnings string[] allowed and perhaps not meant
---@field notes string[] what was looked at

local function add(list, ...) list[#list + 1] = string.format(...) end

-- (yields)
local function check_settings(found, cfg)
  local passed, problems = preflight.run(cfg)
  for _, problem in ipairs(problems or {}) do add(found.problems, "%s", problem) end
  if passed == nil then return end
  for _, warning in ipairs(passed.warnings) do add(found.warnings, "%s", warning) end
  local asked = passed.credentials:name()
  if asked == "dev" then add(found.warnings, "MACP_ALLOW_INSECURE=1: every bearer value is accepted as an identity") end
  add(found.notes, "authentication: %s", asked)
  add(found.notes, "transport: %s", passed.tls and "TLS, certificate of " .. passed.tls.facts.subject or "plain text")
  passed.credentials:close()
end

-- A folder that is broken would not be served; the others would. (yields)
local function check_modes(found, modes)
  local ok, err = modes:load_all()
  if not ok then add(found.problems, "%s", err.message) end
  local served = 0
  for _, folder in ipairs(modes:status().modes) do
    if folder.revision then served = served + 1 end
    for _, problem in ipairs(folder.candidate and folder.candidate.errors or {}) do
      add(found.problems, "%s:%s: %s", problem.path, problem.line, problem.text)
      found.unserved = found.unserved + 1
    end
  end
  add(found.notes, "modes: %d", served)
end

-- (yields)
local function check_policies(found, cfg, modes, place)
  local registry, err = policies.open(cfg, modes, sys.now_ms, place)
  if registry then
    add(found.notes, "policies: %s", cfg.policies_dir and "from " .. cfg.policies_dir or "registered ones")
    return
  end
  local list = type(err.message) == "table" and err.message or { err.message }
  for _, problem in ipairs(list) do add(found.problems, "%s", problem) end
end

-- (yields)
local function look_into(found, cfg, store)
  local version, err = format.read(store.journal)
  if version == nil then
    add(found.problems, "the store in %s: %s", store.where, err.message)
  elseif version > format.VERSION then
    add(found.problems, "the store in %s has format %d; this program knows format %d and older", store.where, version,
      format.VERSION)
  end
  local damaged = cfg.strict_recovery and found.problems or found.warnings
  for id, reason in pairs(store.journal:damaged()) do
    add(damaged, "the store in %s: session %s: %s", store.where, id, reason)
  end
  add(found.notes, "store: %d sessions in %s", #history.ids(store.journal), store.where)
end

-- The policies are those registered in the store, unless they come from files. (yields)
local function check_store(found, cfg, modes)
  if cfg.memory_only then
    check_policies(found, cfg, modes, nil)
    add(found.warnings, "MACP_MEMORY_ONLY=1: nothing is stored")
    return
  end
  local store, err = storage.open_existing(cfg)
  check_policies(found, cfg, modes, store and store.policies or storage.policy_files(cfg))
  if store then
    look_into(found, cfg, store)
    store:close()
  elseif err.code == "NOT_FOUND" then
    add(found.notes, "store: none yet in %s", cfg.data_dir)
  elseif err.code == "CONFLICT" then
    add(found.notes, "store: in use, not looked into")
  else
    add(found.problems, "%s", err.message)
  end
end

---Checks a configuration. (yields)
---@param config table settings; the section `runtime` is read
---@param services { modes: fun(opts: { archive: table }): table }
---@return macp.runtime.Findings
function M.run(config, services)
  local cfg, found = config.runtime, { problems = {}, warnings = {}, notes = {}, unserved = 0 }
  check_settings(found, cfg)
  local modes = services.modes({ archive = memory_archive.new() })
  check_modes(found, modes)
  check_store(found, cfg, modes)
  modes:close()
  return found
end

return M
