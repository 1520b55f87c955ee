# Turns lua/, modes/, migrations/, web/ and the descriptor set into one C table, looked up by host/embed/embed.c.
find_program(LUAJIT_PROGRAM luajit REQUIRED)
file(GLOB_RECURSE PROTO_FILES CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR}/proto ${CMAKE_SOURCE_DIR}/proto/*.proto)
set(DESCRIPTOR_SET ${CMAKE_BINARY_DIR}/generated/macp.pb)
if(PROTO_FILES)
  list(TRANSFORM PROTO_FILES PREPEND ${CMAKE_SOURCE_DIR}/proto/ OUTPUT_VARIABLE PROTO_PATHS)
  add_custom_command(
    OUTPUT ${DESCRIPTOR_SET}
    COMMAND ${PROTOC} -I${CMAKE_SOURCE_DIR}/proto -I${PROTOBUF_INCLUDE} --include_imports --descriptor_set_out=${DESCRIPTOR_SET}
      ${PROTO_FILES} google/protobuf/descriptor.proto # the type of files that are made for modes
    DEPENDS ${PROTO_PATHS})
else()
  file(WRITE ${DESCRIPTOR_SET} "")
endif()

file(GLOB_RECURSE EMBED_INPUTS CONFIGURE_DEPENDS
  ${CMAKE_SOURCE_DIR}/lua/*.lua ${CMAKE_SOURCE_DIR}/host/prelude/*.lua ${CMAKE_SOURCE_DIR}/modes/* ${CMAKE_SOURCE_DIR}/examples/quickstart/* ${CMAKE_SOURCE_DIR}/migrations/*.sql
  ${CMAKE_SOURCE_DIR}/web/*)
set(MACP_EMBEDDED ${CMAKE_BINARY_DIR}/generated/embedded.c)
add_custom_command(
  OUTPUT ${MACP_EMBEDDED}
  COMMAND ${LUAJIT_PROGRAM} ${CMAKE_SOURCE_DIR}/cmake/embed.lua ${CMAKE_SOURCE_DIR} ${DESCRIPTOR_SET} ${MACP_EMBEDDED}
          lua host/prelude modes migrations examples/quickstart web
  DEPENDS ${EMBED_INPUTS} ${DESCRIPTOR_SET} ${CMAKE_SOURCE_DIR}/cmake/embed.lua
  COMMENT "Embedding scripts")
