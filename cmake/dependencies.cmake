# Libraries from Debian's packages, gathered in one interface target.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(UV REQUIRED IMPORTED_TARGET libuv)
pkg_check_modules(LUAJIT REQUIRED IMPORTED_TARGET luajit)
pkg_check_modules(PQ REQUIRED IMPORTED_TARGET libpq)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(OPENSSL REQUIRED IMPORTED_TARGET openssl)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c)

# gRPC: the packaged CMake and pkg-config files ask for the C++ side; the C core alone is two libraries.
find_path(GRPC_INCLUDE grpc/grpc.h REQUIRED)
find_library(GRPC_LIBRARY grpc REQUIRED)
find_library(GPR_LIBRARY gpr REQUIRED)

# cjose: signed tokens. Its pkg-config file wants the headers of a JSON library that ours never include.
find_path(CJOSE_INCLUDE cjose/cjose.h REQUIRED)
find_library(CJOSE_LIBRARY cjose REQUIRED)

# lua-cjson: a static archive without a usable pkg-config file.
find_library(CJSON_LIBRARY NAMES liblua5.1-cjson.a REQUIRED)

# llhttp: the package ships C sources.
find_path(LLHTTP_SRC llhttp.c PATHS /usr/share/llhttp REQUIRED NO_DEFAULT_PATH)
find_path(LLHTTP_INC llhttp.h PATHS /usr/share/include/llhttp REQUIRED NO_DEFAULT_PATH)
add_library(llhttp STATIC ${LLHTTP_SRC}/api.c ${LLHTTP_SRC}/http.c ${LLHTTP_SRC}/llhttp.c)
target_compile_definitions(llhttp PRIVATE LLHTTP_STRICT_MODE=1) # refuse bare LF, raw bytes in targets, stray spaces
target_include_directories(llhttp SYSTEM PUBLIC ${LLHTTP_INC})

# RocksDB is optional, and loaded when a store of it is opened: only its header and its name are needed here.
find_path(ROCKSDB_INCLUDE rocksdb/c.h)
find_library(ROCKSDB_LIBRARY rocksdb)
set(ROCKSDB_NAME "")
if(ROCKSDB_INCLUDE AND ROCKSDB_LIBRARY)
  get_filename_component(ROCKSDB_FILE ${ROCKSDB_LIBRARY} REALPATH)
  get_filename_component(ROCKSDB_FILE ${ROCKSDB_FILE} NAME)
  string(REGEX MATCH "^librocksdb\\.so\\.[0-9]+\\.[0-9]+" ROCKSDB_NAME ${ROCKSDB_FILE})
endif()
message(STATUS "RocksDB: ${ROCKSDB_NAME}")

find_program(PROTOC protoc REQUIRED)
find_program(PROTOC_C protoc-c REQUIRED)

# The only generated code: protobuf's own descriptor of descriptors.
set(DESCRIPTOR_C ${CMAKE_BINARY_DIR}/generated/google/protobuf/descriptor.pb-c.c)
find_path(PROTOBUF_INCLUDE google/protobuf/descriptor.proto REQUIRED)
add_custom_command(
  OUTPUT ${DESCRIPTOR_C}
  BYPRODUCTS ${CMAKE_BINARY_DIR}/generated/google/protobuf/descriptor.pb-c.h
  COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/generated
  COMMAND ${PROTOC_C} -I${PROTOBUF_INCLUDE} --c_out=${CMAKE_BINARY_DIR}/generated google/protobuf/descriptor.proto
  DEPENDS ${PROTOBUF_INCLUDE}/google/protobuf/descriptor.proto)
add_library(descriptor STATIC ${DESCRIPTOR_C})
target_include_directories(descriptor SYSTEM PUBLIC ${CMAKE_BINARY_DIR}/generated)
target_link_libraries(descriptor PUBLIC PkgConfig::PROTOBUF_C)

# Redis as a store of the journal and between planes: optional. -DMACP_REDIS=OFF leaves it out, ON insists.
set(MACP_REDIS AUTO CACHE STRING "Redis (hiredis), for the journal and between planes: AUTO, ON or OFF")
if(NOT MACP_REDIS STREQUAL "OFF")
  pkg_check_modules(HIREDIS IMPORTED_TARGET hiredis)
  if(MACP_REDIS STREQUAL "ON" AND NOT HIREDIS_FOUND)
    message(FATAL_ERROR "MACP_REDIS=ON needs hiredis (Debian: libhiredis-dev)")
  endif()
endif()

# Optional: a heap that is faster across threads. Sanitizers bring their own.
if(NOT MACP_SANITIZE AND NOT MACP_FUZZ)
  pkg_check_modules(JEMALLOC IMPORTED_TARGET jemalloc)
endif()

add_library(macp_dependencies INTERFACE)
target_include_directories(macp_dependencies SYSTEM INTERFACE ${GRPC_INCLUDE} ${CJOSE_INCLUDE})
target_link_libraries(macp_dependencies INTERFACE
  llhttp descriptor PkgConfig::UV PkgConfig::LUAJIT PkgConfig::PQ PkgConfig::CURL PkgConfig::OPENSSL PkgConfig::ZLIB
  PkgConfig::PROTOBUF_C ${GRPC_LIBRARY} ${GPR_LIBRARY} ${CJOSE_LIBRARY} ${CJSON_LIBRARY} Threads::Threads m)
if(ROCKSDB_NAME)
  target_compile_definitions(macp_dependencies INTERFACE MACP_ROCKSDB="${ROCKSDB_NAME}")
  target_include_directories(macp_dependencies SYSTEM INTERFACE ${ROCKSDB_INCLUDE})
  target_link_libraries(macp_dependencies INTERFACE ${CMAKE_DL_LIBS})
endif()
if(HIREDIS_FOUND AND NOT MACP_REDIS STREQUAL "OFF")
  set(MACP_WITH_REDIS ON)
  target_compile_definitions(macp_dependencies INTERFACE MACP_WITH_REDIS)
  target_link_libraries(macp_dependencies INTERFACE PkgConfig::HIREDIS)
endif()
if(JEMALLOC_FOUND)
  target_link_libraries(macp_dependencies INTERFACE PkgConfig::JEMALLOC)
  target_compile_definitions(macp_dependencies INTERFACE MACP_JEMALLOC)
endif()
