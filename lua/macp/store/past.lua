-- What a question about the past of a run begins with: its session and where its history ends, in one statement.

local db_door = require("macp.store.db")

-- runs_pkey, runtime_sessions_pkey, and two backward steps in the primary keys of the events. Not max(seq): of a table whose
-- statistics are young the planner believes that reading all rows of a run is as cheap.
local PLACE = [[
select s.runtime_session_id, s.mode_name, s.mode_version, s.mode_revision, s.configuration_version, s.policy_version,
  s.initiator_participant_id, s.session_state, s.started_at, s.expires_at, s.metadata,
  greatest(
    (select seq from run_events_raw where tenant = $1 and run_id = $2 order by seq desc limit 1),
    (select seq from run_events_canonical where tenant = $1 and run_id = $2 order by seq desc limit 1), 0) as tail
from runs r left join runtime_sessions s on s.tenant = r.tenant and s.run_id = r.id
where r.tenant = $1 and r.id = $2]]

local M = {}

---The session of a run as store/sessions.lua finds it (without runtime_session_id: it is not bound yet) and `tail`, its
---last number, 0 without events; false when the run is not there. (yields)
function M.place(db, tenant, run_id) return db_door.one(db, PLACE, tenant, run_id) end

return M
