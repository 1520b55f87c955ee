-- Many live runs and two planes in processes of their own, of which one goes away: for the fault specs and the benchmark.

local fetch = require("host.fetch")
local sys = require("host.sys")

local json = require("macp.core.json")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local system = require("spec.support.system")
local workers = require("spec.support.workers")

local SENDERS = 32 -- tasks that send at the same time

local Takeover = {}
Takeover.__index = Takeover

local M = {}

-- fn(id) for all sessions, many at once. (yields)
local function each(self, fn)
  workers.each(#self.ids, SENDERS, function(i) fn(self.ids[i]) end)
end

local function send(self, sender, envelope)
  local response, err = self.system:client():call(sender, "Send", { envelope = envelope })
  if response == nil then error(err.message) end
  if not response.ack.ok then error(response.ack.error.message) end
end

---A runtime with `runs` open sessions, and plane `a`, which observes all of them. (yields)
---@param opts { runs: integer, env: table|nil }
function M.start(opts)
  local self = setmetatable({ ids = {}, sent = {}, number = 0 }, Takeover)
  self.system = system.new({ role = "runtime", env = opts.env })
  local ok, err = pcall(function()
    self.system:serve()
    self.a = self.system:add_plane()
    for i = 1, opts.runs do
      self.ids[i] = ("00000000-0000-4000-8000-%012x"):format(i)
      self.sent[self.ids[i]] = 0
    end
    each(self, function(id)
      send(self, "boss", client.start_envelope(id, { ttl_ms = 3600000 }))
      self.sent[id] = self.sent[id] + 1
    end)
    eventually(function() return self:owned_by_all("running") end, 60000, "all runs observed")
    self.b = self.system:add_plane()
  end)
  if not ok then
    self:close()
    error(err, 2)
  end
  return self
end

---Sends one more envelope into every session. (yields)
function Takeover:talk()
  self.number = self.number + 1
  each(self, function(id)
    local name = "p" .. self.number
    send(self, self.number % 2 == 0 and "ann" or "bob", client.envelope({ session_id = id, message_id = id .. name,
      timestamp_unix_ms = sys.now_ms(), payload = client.payload("macp.modes.decision.v1.ProposalPayload",
        { proposal_id = name, option = "A" }) }))
    self.sent[id] = self.sent[id] + 1
  end)
end

---true when every run has this status. (yields)
function Takeover:owned_by_all(status)
  local row = self.system:rows([[select count(*) as n from runs where status = $1 and lease_owner is not null]],
    status)[1]
  return row.n == #self.ids, row.n
end

---The processes that own runs: name to count. (yields)
function Takeover:owners()
  local owners = {}
  for _, row in ipairs(self.system:rows([[select coalesce(lease_owner, '') as name, count(*) as n from runs
    group by 1]])) do owners[row.name] = row.n end
  return owners
end

---Waits until all envelopes that were accepted are stored. (yields)
function Takeover:await_stored(timeout_ms)
  local wanted = 0
  for _, n in pairs(self.sent) do wanted = wanted + n end
  eventually(function()
    local found = self.system:rows("select count(*) as n from run_events_raw where ordinal is not null")[1].n
    return found >= wanted, found .. " of " .. wanted
  end, timeout_ms, "all envelopes stored")
end

---What is wrong with the stored histories: lost or repeated envelopes, numbers that were given twice. (yields)
---@return string[]
function Takeover:faults()
  local faults = {}
  for _, row in ipairs(self.system:rows([[
    select run_id, count(*) as n, count(distinct ordinal) as ordinals, min(ordinal) as first, max(ordinal) as last
    from run_events_raw where ordinal is not null group by run_id]])) do
    local sent = self.sent[row.run_id]
    if row.n ~= sent or row.ordinals ~= sent or row.first ~= 1 or row.last ~= sent then
      faults[#faults + 1] = string.format("%s: %d of %d envelopes, %d ordinals up to %d", row.run_id, row.n, sent,
        row.ordinals, row.last)
    end
  end
  for _, row in ipairs(self.system:rows([[
    select run_id, count(*) as n, count(distinct document::json #>> '{data,messageId}') as ids
    from run_events_canonical where type = 'message.received' group by run_id]])) do
    if row.n ~= row.ids or row.n ~= self.sent[row.run_id] then
      faults[#faults + 1] = string.format("%s: %d messages received, %d ids", row.run_id, row.n, row.ids)
    end
  end
  for _, row in ipairs(self.system:rows([[
    select run_id, count(*) as n, max(seq) as last from (select run_id, seq from run_events_raw union all
      select run_id, seq from run_events_canonical) as every group by run_id having count(*) <> max(seq)]])) do
    faults[#faults + 1] = string.format("%s: %d rows up to number %d", row.run_id, row.n, row.last)
  end
  return faults
end

---Decoded answer of a plane. (yields)
function M.get(plane, path)
  local reply = assert(fetch.request({ url = plane.url .. path, timeout_ms = 20000, max_body_bytes = 67108864 }))
  return json.decode(tostring(reply.body)), reply.status
end

---Ends everything. (yields)
function Takeover:close() self.system:close() end

return M
