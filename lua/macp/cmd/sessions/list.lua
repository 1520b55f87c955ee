-- `macp sessions list`: the stored sessions, filtered and in pages.

local console = require("macp.core.console")
local history = require("macp.runtime.history")
local json = require("macp.core.json")
local store = require("macp.cmd.shared.store")
local time = require("macp.core.time")

local PAGE = 50

local M = {
  summary = "List stored sessions.",
  help = [[
  macp sessions list                            the 50 that started last
  macp sessions list --state open               open, suspended, resolved, expired or cancelled
  macp sessions list --mode macp.mode.decision.v1 --initiator agent://planner
  macp sessions list --limit 200 --after ID     the next page: the last id of the one before
  macp sessions list --json                     {"sessions": [...], "damaged": [...], "next": "ID" or absent}

One pass over the store. Sessions that cannot be read are listed with the reason.]],
  options = {
    { name = "state", value = "STATE", choices = { "open", "suspended", "resolved", "expired", "cancelled" },
      doc = "Only sessions in this state, as it was recorded." },
    { name = "mode", value = "MODE", doc = "Only sessions of this mode." },
    { name = "initiator", value = "SENDER", doc = "Only sessions that this identity started." },
    { name = "participant", value = "SENDER", doc = "Only sessions that this identity takes part in." },
    { name = "limit", value = "N", type = "integer", default = PAGE, doc = "Sessions of a page." },
    { name = "after", value = "ID", doc = "Go on behind this session." },
    { name = "json", doc = "Print JSON." },
  },
}

local function matches(session, opts)
  if opts.state and history.state_name(session.state) ~= opts.state then return false end
  if opts.mode and session.mode ~= opts.mode then return false end
  if opts.initiator and session.initiator ~= opts.initiator then return false end
  return not opts.participant or session.is_participant[opts.participant] == true
end

-- Newest first; sessions that started together by id.
local function before(a, b)
  if a.started_at ~= b.started_at then return a.started_at > b.started_at end
  return a.id < b.id
end

-- What is shown: the sessions of the page, those that cannot be read, and whether more follow.
local function select_page(all, opts)
  local found, damaged, mark = {}, {}, nil
  for id, session in pairs(all) do
    if session.broken then damaged[#damaged + 1] = session
    elseif id ~= opts.after and matches(session, opts) then found[#found + 1] = session end
  end
  table.sort(found, before)
  table.sort(damaged, function(a, b) return a.id < b.id end)
  if opts.after then
    mark = all[opts.after]
    if mark == nil or mark.broken then
      return nil, "--after: no readable session has the id " .. store.safe(opts.after)
    end
  end
  local page, more = {}, false
  for _, session in ipairs(found) do
    if mark == nil or before(mark, session) then
      if #page == opts.limit then
        more = true
        break
      end
      page[#page + 1] = session
    end
  end
  return { sessions = page, damaged = damaged, next = more and page[#page].id or nil, matching = #found }
end

local function print_json(page)
  local sessions, damaged = json.array({}), json.array({})
  for i, session in ipairs(page.sessions) do sessions[i] = store.facts(session) end
  for i, session in ipairs(page.damaged) do damaged[i] = { session_id = session.id, reason = session.broken } end
  console.print(json.encode({ sessions = sessions, damaged = damaged, next = page.next }, { sorted = true }))
end

local function print_table(page, where)
  local style, rows = console.style(), { { "ID", "STATE", "STARTED", "MESSAGES", "MODE", "INITIATOR" } }
  for _, session in ipairs(page.sessions) do
    rows[#rows + 1] = {
      store.safe(session.id), history.state_name(session.state), time.iso(session.started_at),
      tostring(session.ordinals), store.safe(session.mode), store.safe(session.initiator),
    }
  end
  for i, line in ipairs(store.columns(rows)) do console.print(i == 1 and style.bold(line) or line) end
  for _, session in ipairs(page.damaged) do
    console.print(style.red("damaged ") .. store.safe(session.id) .. ": " .. session.broken)
  end
  console.print(string.format("%d of %d in %s%s", #page.sessions, page.matching, where,
    page.next and "; next page: --after " .. store.safe(page.next) or ""))
end

---(yields)
function M.run(opts, cfg)
  if opts.limit < 1 then return nil, { code = "USAGE", message = "--limit must be at least 1" } end
  return store.with(cfg, function(opened)
    local all, err = history.all(opened.journal)
    if all == nil then return nil, err end
    local page, problem = select_page(all, opts)
    if page == nil then return nil, { code = "USAGE", message = problem } end
    if opts.json then print_json(page) else print_table(page, opened.where) end
    return 0
  end)
end

return M
