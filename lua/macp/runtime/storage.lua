-- The store of a runtime: its journal and the archive of mode revisions beside it. The role and the commands that
-- look into a store open it here, so that a backend is known in one place.

local fs = require("host.fs")
local host_journal = require("host.journal")

local archive = require("macp.runtime.archive")
local errors = require("macp.core.errors")
local journal_archive = require("macp.runtime.journal_archive")
local memory_archive = require("macp.runtime.memory_archive")
local redact = require("macp.telemetry.redact")
local policy_journal = require("macp.runtime.policies.journal_store")
local policy_store = require("macp.runtime.policies.store")
local registered_file = require("macp.modes.registered_file")

local FRAME_SLACK_BYTES = 65536
local MAX_STATE_BYTES = 32 * 1024 * 1024 -- the largest checkpoint

local M = { FRAME_SLACK_BYTES = FRAME_SLACK_BYTES }

---@class macp.runtime.Storage
---@field journal table host.journal
---@field archive table revisions of modes: put(hash, files, meta), get(hash)
---@field registered table where registered and promoted modes are kept: load(), save(document)
---@field policies table where registered policies are kept, as macp.runtime.policies.store
---@field where string what the store is, for people

local Storage = {}
Storage.__index = Storage

---Closes what open has opened. (yields)
function Storage:close()
  self.journal:close()
  if self.shared then self.shared:close() end
end

-- Options of host.journal by backend, and where it keeps its data, for people.
local BACKENDS = {
  file = function(cfg) return { backend = "file", dir = cfg.data_dir .. "/journal" }, cfg.data_dir end,
  rocksdb = function(cfg)
    local dir = cfg.rocksdb_path or cfg.data_dir .. "/rocksdb"
    return { backend = "rocksdb", dir = dir }, dir
  end,
  redis = function(cfg)
    return { backend = "redis", url = cfg.redis_url, lease_ms = cfg.redis_lease_ms }, redact.url(cfg.redis_url)
  end,
}

local function failed(what, err)
  return nil, errors.new("INTERNAL_ERROR", string.format("%s: %s", what, err.message or tostring(err)))
end

local function max_record_bytes(cfg) return math.max(cfg.max_payload_bytes + FRAME_SLACK_BYTES, MAX_STATE_BYTES) end

local function open_memory(cfg)
  local journal, err = host_journal.open({ backend = "memory", max_record_bytes = max_record_bytes(cfg) })
  if journal == nil then return failed("open the journal", err) end
  return setmetatable({
    journal = journal, archive = memory_archive.new(), registered = registered_file.memory(),
    policies = policy_store.memory(), where = "memory",
  }, Storage)
end

---Registered policies that are kept in the data directory; nil when the store is one that several machines reach.
---@param cfg table the section `runtime` of the settings
---@return table|nil
function M.policy_files(cfg)
  if cfg.storage_backend == "redis" then return nil end
  return policy_store.new(cfg.data_dir .. "/policies")
end

-- What sessions depend on besides their own records: in the data directory, or, when several machines reach the store,
-- in a journal of its own there. (yields)
local function open_beside(store, opts, cfg)
  if cfg.storage_backend ~= "redis" then
    store.archive = archive.new(cfg.data_dir .. "/modes")
    store.registered = registered_file.file(cfg.data_dir .. "/modes.json")
    store.policies = M.policy_files(cfg)
    return store
  end
  opts.name = "modes"
  local err
  store.shared, err = host_journal.open(opts)
  if store.shared == nil then
    store:close()
    return failed("open the journal of modes and policies in " .. store.where, err)
  end
  store.archive = journal_archive.new(store.shared)
  store.registered = registered_file.journal(store.shared, "registered", store.where)
  store.policies = policy_journal.new(store.shared, store.where)
  return store
end

local function in_use(where)
  return nil, errors.new("CONFLICT", where .. " is in use: a runtime serves it. Stop that runtime, or name a copy of "
    .. "its directory in MACP_DATA_DIR")
end

---Opens a store to look into it. It must exist, and nobody may serve it: a journal has one process. As at a start of
---the runtime, a torn end is cut off and damaged sessions are set apart. (yields)
---@param cfg table the section `runtime` of the settings
---@return macp.runtime.Storage|nil storage, table? err NOT_FOUND, CONFLICT while it is in use, or why it cannot be read
function M.open_existing(cfg)
  if cfg.memory_only then return nil, errors.new("NOT_FOUND", "MACP_MEMORY_ONLY=1: nothing is stored") end
  local opts, where = BACKENDS[cfg.storage_backend](cfg)
  local info = opts.dir == nil or fs.stat(opts.dir)
  if not info then
    return nil, errors.new("NOT_FOUND",
      where .. " holds no store: MACP_DATA_DIR and MACP_STORAGE_BACKEND (" .. cfg.storage_backend
        .. ") must be those of the runtime that made it")
  end
  opts.max_record_bytes, opts.repair = max_record_bytes(cfg), "quarantine"
  local journal, err = host_journal.open(opts)
  if journal == nil and err.code == "BUSY" then return in_use(where) end
  if journal == nil then return failed("open the journal in " .. where, err) end
  return open_beside(setmetatable({ journal = journal, where = where }, Storage), opts, cfg)
end

---Opens the store that the settings name; it is created when it does not exist. (yields)
---@param cfg table the section `runtime` of the settings
---@return macp.runtime.Storage|nil storage, table? err
function M.open(cfg)
  if cfg.memory_only then return open_memory(cfg) end
  local ok, err = fs.mkdir_p(cfg.data_dir)
  if not ok then return failed("MACP_DATA_DIR " .. cfg.data_dir, err) end
  local opts, where = BACKENDS[cfg.storage_backend](cfg)
  opts.max_record_bytes = max_record_bytes(cfg)
  opts.repair = cfg.strict_recovery and "refuse" or "quarantine"
  local journal
  journal, err = host_journal.open(opts)
  if journal == nil then return failed("open the journal in " .. where, err) end
  return open_beside(setmetatable({ journal = journal, where = where }, Storage), opts, cfg)
end

return M
