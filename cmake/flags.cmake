# Warnings, hardening and sanitizers of our own code (not of the libraries' sources).
string(TOLOWER "${CMAKE_BUILD_TYPE}" MACP_BUILD)
if(MACP_SANITIZE MATCHES "address")
  set(MACP_BUILD asan)
elseif(MACP_SANITIZE)
  set(MACP_BUILD ${MACP_SANITIZE})
endif()
add_library(macp_flags INTERFACE)
# Release defines NDEBUG (CMake does); Debug keeps assertions and counts handles that are left open as a failure.
target_compile_options(macp_flags INTERFACE
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef -Wvla
  -Wformat=2 -Wno-unused-parameter -fno-strict-aliasing -g
  $<$<BOOL:${MACP_WERROR}>:-Werror>
  $<$<CONFIG:Release>:-O2 -fstack-protector-strong>
  $<$<CONFIG:Debug>:-O1>)
target_compile_definitions(macp_flags INTERFACE
  _GNU_SOURCE
  MACP_BUILD="${MACP_BUILD}"
  $<$<CONFIG:Debug>:MACP_FAULTS>)
if(NOT MACP_SANITIZE AND CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_definitions(macp_flags INTERFACE _FORTIFY_SOURCE=2)
endif()
target_link_options(macp_flags INTERFACE -Wl,--as-needed -Wl,-z,relro -Wl,-z,now)

# Position-independent programs, whatever the compiler does by itself.
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)

if(MACP_SANITIZE)
  add_compile_options(-fsanitize=${MACP_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${MACP_SANITIZE})
  if(MACP_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()

# Coverage feedback must come from the code under test, not only from the fuzz target.
if(MACP_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
