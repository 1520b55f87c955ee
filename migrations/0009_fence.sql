-- Who lost a run to another process cannot add to its history: every commit of events ends with this question. The
-- SQLSTATE is ours. Locks nothing.

create function plane_fence(given_tenant text, given_owner text, given_runs uuid[]) returns void
language plpgsql as $$
begin
  -- runs_pkey; without an owner: the run has ended, or nobody has taken it yet
  perform 1 from runs
  where tenant = given_tenant and id = any (given_runs) and lease_owner <> given_owner limit 1;
  if found then
    raise exception 'a run of this batch belongs to another process' using errcode = 'MF001';
  end if;
end
$$;
