/* The C heap as a whole. */
#pragma once

/* Gives free pages back to the system. Takes milliseconds on a large heap; any thread. */
void heap_trim(void);
