-- Policies a session can bind: those that are built in, and either those that were registered over the wire and are
-- kept in the store, or those of MACP_POLICIES_DIR. An entry never changes, and an id never changes its meaning.
-- Changes happen one after the other per id and are durable before anybody sees them.

local crypto = require("host.crypto")
local host_bytes = require("host.bytes")
local log = require("host.log")
local task = require("host.task")

local builtin = require("macp.runtime.policies.builtin")
local descriptor = require("macp.runtime.policies.descriptor")
local json = require("macp.core.json")
local messages = require("macp.protocol.messages")
local store = require("macp.runtime.policies.store")

local ANY_MODE = "*"
local MAX_POLICIES = 1000
-- All descriptors together: a list of them must fit into what gRPC clients take by default, 4 MiB.
local MAX_BYTES = 3 * 1024 * 1024
local MAX_TOMBSTONES = 10000
local SHOWN_BYTES = 255
local INVALID = "INVALID_POLICY_DEFINITION: "

local Registry = {}
Registry.__index = Registry

local M = {}

-- An id that somebody asks for may be anything; it is told shortened.
local function shown(id) return json.quoted(id, SHOWN_BYTES) end

local function size_of(policy)
  return #policy.policy_id + #policy.mode + #policy.description + #policy.rules_json + 32
end

-- Room is taken before a policy is stored, so that calls that run side by side do not share the last of it.
local function take_room(self, policy) self.count, self.bytes = self.count + 1, self.bytes + size_of(policy) end

local function give_room(self, policy) self.count, self.bytes = self.count - 1, self.bytes - size_of(policy) end

-- Puts a policy in or takes one out. Nothing yields here: everybody sees the change at once.
local function place(self, id, policy)
  local old = self.by_id[id]
  if old then give_room(self, old) end
  self.by_id[id] = policy
  if policy then take_room(self, policy) end
end

local function announce(self)
  self.version, self.list_bytes = self.version + 1, nil
  self.changed:broadcast()
end

---@param opts { modes: table, store: table|nil, now_ms: fun(): integer, strict: boolean|nil } modes: the mode registry;
---  strict: MACP_STRICT_POLICIES
function M.new(opts)
  local registry = setmetatable({
    modes = opts.modes, store = opts.store or store.memory(), now_ms = opts.now_ms, strict = opts.strict or false,
    by_id = {}, count = 0, bytes = 0, tombstones = {}, buried = {}, pending = {}, settled = task.cond(), version = 1,
    changed = task.cond(), read_only = false, list_codec = messages.codec("macp.v1.WatchPoliciesResponse"),
  }, Registry)
  for _, given in ipairs(builtin.list) do
    local policy = assert(descriptor.of_table(given))
    policy.origin = "built in"
    place(registry, policy.policy_id, policy)
  end
  return registry
end

---What a policy means, short enough to keep: equal for policies that mean the same.
---@return string
function Registry:fingerprint(policy)
  return crypto.sha256_hex(table.concat({ policy.mode, policy.schema_version,
    self.modes:policy_meaning(policy.mode, policy.rules) }, "\0"))
end

-- Keeps the newest tombstones: an id may come back with another meaning only after so many others were unregistered.
local function bury(self, id, fingerprint)
  if self.tombstones[id] == nil then self.buried[#self.buried + 1] = id end
  self.tombstones[id] = fingerprint
  if #self.buried <= MAX_TOMBSTONES then return nil end
  local oldest = table.remove(self.buried, 1)
  self.tombstones[oldest] = nil
  return oldest
end

-- Ids that belong to the protocol: nil for others, "invalid" or "taken", and why.
local function check_reserved(self, policy)
  local id, known = policy.policy_id, self.by_id[policy.policy_id]
  if known and known.origin == "built in" then
    if id ~= builtin.DEFAULT_ID and self:fingerprint(known) == self:fingerprint(policy) then
      return "taken", string.format("policy_id %q is already registered: it is built in", id)
    end
    return "invalid", string.format("policy_id: %q is reserved for the policy that is built in", id)
  end
  if id:find("^policy%.std%.") then
    return "invalid", string.format("policy_id: %q is reserved: policy.std.* belongs to the protocol", id)
  end
  return nil
end

-- Why an id may not be registered for this policy now: "invalid" or "taken", and why; nil when it may.
local function check_id(self, policy)
  local kind, text = check_reserved(self, policy)
  if kind then return kind, text end
  local id = policy.policy_id
  if self.by_id[id] then return "taken", string.format("policy_id %q is already registered", id) end
  local buried = self.tombstones[id]
  if buried and buried ~= self:fingerprint(policy) then
    return "taken", string.format("policy_id %q was already registered with another meaning, "
      .. "and an id never changes it: use a new one", id)
  end
  return nil
end

local function check_room(self, policy)
  if self.count >= MAX_POLICIES then
    return nil, string.format("%d policies are registered, and there is room for no more", self.count)
  end
  if self.bytes + size_of(policy) > MAX_BYTES then
    return nil, string.format("the registered policies take %d bytes, and there is room for %d", self.bytes, MAX_BYTES)
  end
  return true
end

-- Judges a policy by everything but room. kind and text are what is wrong with its id.
local function judge(self, policy, kind, text)
  local problems = { kind == "invalid" and text or nil }
  local ok, texts = self.modes:check_policy(policy.mode, policy.rules, policy.schema_version, { strict = self.strict })
  for _, problem in ipairs(ok and {} or texts) do problems[#problems + 1] = problem end
  if #problems > 0 then return nil, problems end
  if kind == "taken" then return nil, { text }, true end
  local warnings = descriptor.warnings(policy)
  for _, warning in ipairs(texts) do warnings[#warnings + 1] = warning end
  return true, warnings
end

---Judges the policy of a file: one that is served already may stay, but not change its meaning.
---@param policy macp.runtime.Policy of descriptor
---@return true|nil ok, string[] warnings, or problems
function Registry:judge_file(policy)
  local kind, text = check_reserved(self, policy)
  local known = self.by_id[policy.policy_id]
  local meant = kind == nil and (known and self:fingerprint(known) or self.tombstones[policy.policy_id])
  if meant and meant ~= self:fingerprint(policy) then
    kind, text = "invalid", string.format("policy_id: %q is served with another meaning, and an id never changes it: "
      .. "use a new one", policy.policy_id)
  end
  return judge(self, policy, kind, text)
end

local function warn(policy, warnings)
  for _, warning in ipairs(warnings) do
    log.warn("policy.warning", { policy_id = policy.policy_id, warning = warning })
  end
end

-- Runs a change of one id in a task of its own: a caller that leaves does not stop it half-way. (yields)
local function change(self, id, fn)
  local running = task.spawn(function()
    while self.pending[id] do self.settled:wait() end
    self.pending[id] = true
    local fine, ok, text, err = pcall(fn) -- whatever happens, the next change of this id gets its turn
    self.pending[id] = nil
    self.settled:broadcast()
    if not fine then error(ok, 0) end
    return ok, text, err
  end)
  local ok, text, err = running:join()
  if type(text) ~= "table" then return ok, text, err end
  if text.code ~= "CANCELLED" then error(text.message, 0) end -- a bug, for the dispatcher
  return nil, text.message, text
end

---Registers a policy. (yields)
---@param policy macp.runtime.Policy of descriptor
---@return true|nil ok, string|nil why not, table|nil err when the disk failed
function Registry:register(policy)
  return change(self, policy.policy_id, function()
    local ok, texts, is_taken = judge(self, policy, check_id(self, policy))
    if not ok then return nil, (is_taken and "" or INVALID) .. table.concat(texts, "; ") end
    local has_room, reason = check_room(self, policy)
    if not has_room then return nil, reason end
    policy.registered_at_ms, policy.origin = self.now_ms(), "registered"
    take_room(self, policy)
    local stored, err = self.store:put(policy)
    give_room(self, policy)
    if not stored then return nil, err.message, err end
    place(self, policy.policy_id, policy)
    announce(self)
    warn(policy, texts)
    log.info("policy.registered", { policy_id = policy.policy_id, mode = policy.mode })
    return true
  end)
end

---Takes a policy out; sessions that are bound to it keep it. (yields)
---@return true|nil ok, string|nil why not, table|nil err when the disk failed
function Registry:unregister(policy_id)
  return change(self, policy_id, function()
    local policy = self.by_id[policy_id]
    if policy == nil then return nil, "policy " .. shown(policy_id) .. " is not found" end
    if policy.origin == "built in" then
      return nil, string.format("policy %q is built in and cannot be unregistered", policy_id)
    end
    local fingerprint = self:fingerprint(policy)
    local ok, err = self.store:bury({ policy_id = policy_id, fingerprint = fingerprint,
      unregistered_at_ms = self.now_ms() })
    if not ok then return nil, err.message, err end
    local forgotten = bury(self, policy_id, fingerprint)
    if forgotten then self.store:forget(forgotten) end
    place(self, policy_id, nil)
    announce(self)
    log.info("policy.unregistered", { policy_id = policy_id })
    return true
  end)
end

-- Notes for one mode whether its sessions may still bind a policy.
local function recheck(policy, mode_id, ok, texts)
  local why = not ok and table.concat(texts, "; ") or nil
  if why and policy.refused[mode_id] ~= why then
    log.warn("policy.unfit", { policy_id = policy.policy_id, mode = mode_id, reason = why })
  end
  policy.refused[mode_id] = why
end

---A revision began to serve: policies that its mode does not take any more are kept and refused to new sessions. What
---was registered once is not judged strictly.
---@param rev macp.modes.Revision
function Registry:mode_changed(rev)
  local id = rev.id
  local check = self.modes:policy_checker(self.modes:get(id) or rev)
  for _, policy in pairs(self.by_id) do
    if policy.mode == ANY_MODE or policy.mode == id then recheck(policy, id, check(policy)) end
  end
end

---Loads what is stored. Files that cannot be read are problems; the others are in. (yields)
---@return integer|nil count, string[]|table problems, or an err when the place cannot be read at all
function Registry:restore()
  local found, err = self.store:load()
  if found == nil then return nil, err end
  table.sort(found.tombstones, function(a, b) return a.unregistered_at_ms < b.unregistered_at_ms end)
  for _, tombstone in ipairs(found.tombstones) do bury(self, tombstone.policy_id, tombstone.fingerprint) end
  local problems = {}
  for i, problem in ipairs(found.problems) do problems[i] = problem.file .. ": " .. problem.text end
  for _, policy in ipairs(found.policies) do
    policy.origin = "registered"
    local reserved, text = check_reserved(self, policy)
    if reserved then
      problems[#problems + 1] = text
    else
      place(self, policy.policy_id, policy)
    end
  end
  for _, mode in ipairs(self.modes:list()) do self:mode_changed(self.modes:get(mode.mode)) end
  return #found.policies, problems
end

---Whether a whole set of files fits beside the built-in policies.
---@param policies macp.runtime.Policy[]
---@return boolean fits, string|nil why not
function Registry:has_room_for(policies)
  local count, bytes = #policies, 0
  for _, policy in ipairs(policies) do bytes = bytes + size_of(policy) end
  for _, policy in pairs(self.by_id) do
    if policy.origin == "built in" then count, bytes = count + 1, bytes + size_of(policy) end
  end
  if count <= MAX_POLICIES and bytes <= MAX_BYTES then return true end
  return false, string.format("%d policies of %d bytes, with those that are built in, are more than %d or %d bytes",
    count, bytes, MAX_POLICIES, MAX_BYTES)
end

---Makes the policies of files the ones that are served besides the built-in ones.
---@param policies macp.runtime.Policy[] judged, each id once
---@return boolean changed
function Registry:replace_files(policies)
  local kept, is_different = {}, false
  for _, policy in ipairs(policies) do kept[policy.policy_id] = true end
  for id, old in pairs(self.by_id) do
    if old.origin == "file" and not kept[id] then
      bury(self, id, self:fingerprint(old))
      place(self, id, nil)
      is_different = true
    end
  end
  for _, policy in ipairs(policies) do
    local old = self.by_id[policy.policy_id]
    if old == nil or old.rules_json ~= policy.rules_json or old.description ~= policy.description then
      policy.origin = "file"
      place(self, policy.policy_id, policy)
      is_different = true
    end
  end
  self.read_only = true
  if is_different then announce(self) end
  return is_different
end

---Follows the directory that the policies come from, if there is one, until close().
function Registry:watch()
  if self.directory then self.directory:watch() end
end

---Reads that directory again. (yields)
function Registry:rescan()
  if self.directory then self.directory:reload() end
end

---Ends following.
function Registry:close()
  if self.directory then self.directory:close() end
end

---The policy of an id, or nil.
---@return macp.runtime.Policy|nil
function Registry:get(policy_id) return self.by_id[policy_id] end

---Policies by id, ascending by byte; with a mode only those its sessions may name.
---@param mode string|nil "" or nil: all
---@return macp.runtime.Policy[]
function Registry:list(mode)
  local out = {}
  for _, policy in pairs(self.by_id) do
    if mode == nil or mode == "" or policy.mode == mode or policy.mode == ANY_MODE then out[#out + 1] = policy end
  end
  table.sort(out, function(a, b) return a.policy_id < b.policy_id end)
  return out
end

---What WatchPolicies sends now, made once per change.
---@return userdata host.bytes, shared by all who watch
---@return integer version
function Registry:snapshot()
  if self.list_bytes == nil then
    local descriptors = json.array({})
    for i, policy in ipairs(self:list()) do descriptors[i] = descriptor.to_message(policy) end
    self.list_bytes = host_bytes.new(assert(self.list_codec:encode({
      descriptors = descriptors, observed_at_unix_ms = self.now_ms(),
    })))
  end
  return self.list_bytes, self.version
end

---The policy a SessionStart asks for; the empty id means the default one.
---@return macp.runtime.Policy|nil, string? code, string? reason
function Registry:resolve(policy_id, mode)
  if policy_id == "" then policy_id = builtin.DEFAULT_ID end
  local policy = self.by_id[policy_id]
  if policy == nil then
    return nil, "UNKNOWN_POLICY_VERSION", "policy " .. shown(policy_id) .. " is not registered"
  end
  if policy.mode ~= ANY_MODE and policy.mode ~= mode then
    return nil, "INVALID_POLICY_DEFINITION", string.format("policy %q is for %s", policy_id, policy.mode)
  end
  local why = policy.refused[mode]
  if why then
    return nil, "INVALID_POLICY_DEFINITION", string.format("policy %q does not fit the mode as it is now: %s",
      policy_id, why)
  end
  return policy
end

---The shared entry that equals a recorded binding, or the binding itself: sessions of one policy share its memory.
function Registry:intern(policy)
  local known = policy.problem == nil and self.by_id[policy.policy_id]
  if known and known.rules_json == policy.rules_json and known.schema_version == policy.schema_version
    and known.mode == policy.mode then
    return known
  end
  return policy
end

return M
