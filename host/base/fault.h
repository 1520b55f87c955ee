/* Named fault points for tests. Compiled out (constant 0) unless MACP_FAULTS is defined.
 * Armed by the environment: MACP_FAULT="name[=action[:count]],..." with action fail (default: the point
 * returns true), kill (SIGKILL to ourselves) or stop-after count hits. */
#pragma once

#include <stdbool.h>

#ifdef MACP_FAULTS
bool fault_hit(const char *name); /* true: behave as if the operation failed */
void fault_arm(const char *name, const char *action, int after_hits); /* from tests; action NULL disarms */
#else
#define fault_hit(name) false
#endif
