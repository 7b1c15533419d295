# For C libraries that crates build with CMake for the Pi Zero's processor (an ARM1176JZF-S: ARMv6 and VFPv2).
#
# .cargo/config.toml names this file for the targets it is for. With it CMake no longer gets the compiler from the crate
# "cmake", hence the lines that take what cargo's environment says.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR armv6l)

string(REPLACE "-" "_" target "$ENV{TARGET}")
foreach(tool "C_COMPILER CC" "CXX_COMPILER CXX" "AR AR" "RANLIB RANLIB")
  string(REPLACE " " ";" tool "${tool}")
  list(GET tool 0 variable)
  list(GET tool 1 name)
  foreach(source "${name}_$ENV{TARGET}" "${name}_${target}" "TARGET_${name}")
    if(NOT CMAKE_${variable} AND NOT "$ENV{${source}}" STREQUAL "")
      set(CMAKE_${variable} "$ENV{${source}}")
    endif()
  endforeach()
endforeach()

# libjpeg-turbo would take its NEON routines in and choose at run time. No ARM1176 has NEON: they are dead weight, and
# nobody could tell from the file that the program never runs code of ARMv7 (scripts/build/check-elf).
set(WITH_SIMD OFF CACHE BOOL "" FORCE)
