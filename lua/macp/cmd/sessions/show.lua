-- `macp sessions show`: everything about one stored session but its payloads.

local console = require("macp.core.console")
local history = require("macp.runtime.history")
local json = require("macp.core.json")
local session_record = require("macp.runtime.session")
local store = require("macp.cmd.shared.store")
local tables = require("macp.core.tables")
local time = require("macp.core.time")

local M = {
  summary = "Show one session: metadata, participants, policy, what happened.",
  help = [[
  macp sessions show 0f8fad5b-d9cb-469f-a165-70867728950e
  macp sessions show ID --json                  for programs

Payloads are not shown; `macp sessions export` writes them.]],
  options = { { name = "json", doc = "Print JSON." } },
  arguments = { { name = "ID", required = true, doc = "Session id." } },
}

local function participants_of(session)
  local seen = {}
  for _, entry in ipairs(session_record.metadata(session).participant_activity) do
    seen[entry.participant_id] = entry
  end
  local list = json.array({})
  local function add(name, role)
    local entry = seen[name]
    seen[name] = nil
    list[#list + 1] = {
      name = name, role = role, messages = entry and entry.message_count or 0,
      last_message_at = entry and time.iso(entry.last_message_at_unix_ms) or nil,
    }
  end
  for _, name in ipairs(session.participants) do
    add(name, name == session.initiator and "initiator and participant" or "participant")
  end
  if not session.is_participant[session.initiator] then add(session.initiator, "initiator") end
  for _, name in ipairs(tables.sorted_keys(seen)) do add(name, "other") end
  return list
end

local function facts_of(session)
  local facts = store.facts(session)
  facts.intent, facts.ttl_ms = session.intent, session.ttl_ms
  facts.participants = participants_of(session)
  facts.extension_keys = json.array(session.extension_keys)
  facts.policy = {
    policy_id = session.policy.policy_id, mode = session.policy.mode, description = session.policy.description,
    schema_version = session.policy.schema_version, rules = session.policy.rules,
  }
  facts.messages_by_type, facts.synthetic_messages = session.types, session.synthetic
  facts.suspensions, facts.suspended_ms = session.suspensions, session.suspended_total
  facts.last_record_at = time.iso(session.last_at)
  facts.envelopes_deleted = session.is_dropped or nil
  return facts
end

local function print_facts(facts)
  local style, rows = console.style(), {}
  local function row(name, value)
    if value ~= nil and value ~= "" then rows[#rows + 1] = { name, store.safe(value) } end
  end
  row("session", facts.session_id)
  row("state", facts.state)
  row("mode", facts.mode .. " " .. facts.mode_version)
  row("revision", facts.mode_revision)
  row("intent", facts.intent)
  row("initiator", facts.initiator)
  row("configuration", facts.configuration_version)
  row("context", facts.context_id)
  row("extensions", table.concat(facts.extension_keys, ", "))
  row("started", facts.started_at)
  row("expires", facts.expires_at .. string.format(" (ttl %d ms)", facts.ttl_ms))
  row("ended", facts.ended_at)
  if facts.suspensions > 0 then row("suspended", facts.suspensions .. " times, " .. facts.suspended_ms .. " ms") end
  row("policy", facts.policy.policy_id .. " (schema " .. facts.policy.schema_version .. ", mode "
    .. facts.policy.mode .. ")")
  row("rules", json.canonical(facts.policy.rules))
  for _, line in ipairs(store.columns(rows)) do console.print(line) end
  console.print("\n" .. style.bold("participants"))
  rows = {}
  for _, one in ipairs(facts.participants) do
    rows[#rows + 1] = { "  " .. store.safe(one.name), one.role, one.messages .. " messages",
      one.last_message_at and "last " .. one.last_message_at or "" }
  end
  for _, line in ipairs(store.columns(rows)) do console.print((line:gsub("%s+$", ""))) end
  console.print(string.format("\n%s  %d accepted envelopes, %d of them by the clock, %d records",
    style.bold("history"), facts.messages, facts.synthetic_messages, facts.records))
  rows = {}
  for _, name in ipairs(tables.sorted_keys(facts.messages_by_type)) do
    rows[#rows + 1] = { "  " .. store.safe(name), tostring(facts.messages_by_type[name]) }
  end
  for _, line in ipairs(store.columns(rows)) do console.print(line) end
  if facts.envelopes_deleted then console.print("  its envelopes are deleted") end
end

---(yields)
function M.run(opts, cfg)
  local id = opts.args[1]
  return store.with(cfg, function(opened)
    local session, err = history.session(opened.journal, id)
    if session == nil then return nil, err end
    local facts = facts_of(session)
    if opts.json then console.print(json.encode(facts, { sorted = true })) else print_facts(facts) end
    return 0
  end)
end

return M
