-- What runs are searched by, looked at run by run; run_words.lua and run_entries.lua find those that have ended at once.

local db_door = require("macp.store.db")

-- Everything that is searched, one thing per line: run_vocabulary of the migrations has the same in words, and
-- runs_search_stats tells how often texts occur in it.
local SEARCHED = [[(id::text || E'\n' || coalesce(scenario_ref, '') || E'\n' || coalesce(environment, '') || E'\n'
  || coalesce(source_ref, '') || E'\n' || tags::text || E'\n'
  || coalesce(metadata #>> '{executionRequest,session,policyVersion}', ''))]]

local INDEXED = 1000 -- bytes up to which a text is in an index of its column

local M = { SEARCHED = SEARCHED }

---Whether a text is short enough for the index of its column.
function M.is_indexed(text) return #text <= INDEXED end

---Adds to a filter that a column is a text, as the index of the column can tell.
function M.add_equal(filter, column, text)
  local short = " and octet_length(" .. column .. ") <= " .. INDEXED
  filter:add(column .. " = ?" .. (M.is_indexed(text) and short or ""), text)
end

---Adds the condition that a run is of a scenario: a piece of its name, or the whole name of its source.
function M.add_plain(filter, text)
  filter:only("(scenario_ref ilike " .. filter:param(db_door.contains(text)) .. " or source_ref = "
    .. filter:param(text) .. ")")
end

return M
