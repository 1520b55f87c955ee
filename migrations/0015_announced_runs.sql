-- Runs that are announced are inserted many at a time, and a deletion may be committed while such a statement waits for it,
-- unseen by it. This question comes after it, in the same transaction, for runs with a key or with a session that was named:
-- was the key used by a run that is deleted, is the session that of another tenant's? Then nothing is inserted; the SQLSTATE
-- is ours. A session that its own tenant names again is wanted again. A null asks for nothing. Locks nothing.

create function plane_admit(given_tenants text[], given_ids uuid[], given_keys text[], given_sessions text[]) returns void
language plpgsql as $$
begin
  for i in 1 .. cardinality(given_ids) loop
    -- runs_pkey
    if exists (select from runs where tenant = given_tenants[i] and id = given_ids[i]) then
      -- deleted_runs_key_idx, deleted_runs_session_idx
      if exists (select from deleted_runs where tenant = given_tenants[i] and idempotency_key = given_keys[i])
        or exists (select from deleted_runs where tenant <> given_tenants[i] and runtime_session_id = given_sessions[i])
      then
        raise exception 'a run with the key or the session of run % was deleted', given_ids[i] using errcode = 'MF002';
      end if;
      update deleted_runs set runtime_session_id = null
      where tenant = given_tenants[i] and runtime_session_id = given_sessions[i];
    end if;
  end loop;
end
$$;
