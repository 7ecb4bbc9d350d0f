# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
# How a test that runs in a guest is declared.

# p2p_guest_test(NAME name COMMAND program args... [PARALLEL] [LEAKS] [OPTIONS run-guest-options...] [AFTER target]
#	[TIMEOUT seconds])
# COMMAND runs in a fresh guest with the debug kernel; with LEAKS that looks for lost memory at the end, as all do below
# "./run test --full". Its virtual CPUs share a thread of the host, which takes half the time; with PARALLEL, for races,
# traffic under revocation and programs that poll, each has its own. A bad line in the kernel log fails the test. AFTER, a
# target, is called on the host with the test's folder, where vram0 still is. A skipped test (status 4) fails: every test
# must run.
function(p2p_guest_test)
	cmake_parse_arguments(PARSE_ARGV 0 T "PARALLEL;LEAKS" "NAME;AFTER;TIMEOUT" "OPTIONS;COMMAND")
	if(T_LEAKS)
		list(APPEND T_OPTIONS --leaks)
		if(NOT T_TIMEOUT)
			set(T_TIMEOUT 900)
		endif()
	endif()
	if(NOT T_PARALLEL)
		list(APPEND T_OPTIONS --one-thread)
	endif()
	p2p_guest_test_command(command ${T_NAME} "${T_TIMEOUT}")
	if(T_AFTER)
		list(APPEND T_OPTIONS --after $<TARGET_FILE:${T_AFTER}>)
	endif()
	add_test(NAME vm.${T_NAME} COMMAND ${PROJECT_SOURCE_DIR}/run guest ${command} ${T_OPTIONS} -- ${T_COMMAND})
	p2p_guest_test_properties(vm.${T_NAME} "${T_TIMEOUT}")
endfunction()

# p2p_guests_test(NAME name COMMAND a-command... -- b-command... [OPTIONS run-guests-options...] [AFTER target]
#	[TIMEOUT seconds]): the same in two guests; AFTER is called for each.
function(p2p_guests_test)
	cmake_parse_arguments(PARSE_ARGV 0 T "" "NAME;AFTER;TIMEOUT" "OPTIONS;COMMAND")
	p2p_guest_test_command(command ${T_NAME} "${T_TIMEOUT}")
	if(T_AFTER)
		list(APPEND T_OPTIONS --after $<TARGET_FILE:${T_AFTER}>)
	endif()
	add_test(NAME vm.${T_NAME} COMMAND ${PROJECT_SOURCE_DIR}/run guests ${command} --one-thread ${T_OPTIONS} -- ${T_COMMAND})
	p2p_guest_test_properties(vm.${T_NAME} "${T_TIMEOUT}")
	# As many as two other tests
	set_tests_properties(vm.${T_NAME} PROPERTIES PROCESSORS 2)
endfunction()

# p2p_kunit_test(NAME name MUST_RUN tests... [OPTIONS run-guest-options...] [TIMEOUT seconds]): the KUnit suites, in a
# fresh guest; these tests must not skip there. They have the alarms raised that are in the log of no other guest.
function(p2p_kunit_test)
	cmake_parse_arguments(PARSE_ARGV 0 T "" "NAME;TIMEOUT" "OPTIONS;MUST_RUN")
	list(JOIN T_MUST_RUN "," must_run)
	p2p_guest_test_command(command ${T_NAME} "${T_TIMEOUT}")
	add_test(NAME vm.${T_NAME} COMMAND ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/kunit.sh ${must_run} ${command} --one-thread
		${T_OPTIONS} --allow-log "offset out of range" --allow-log "still has it mapped")
	p2p_guest_test_properties(vm.${T_NAME} "${T_TIMEOUT}")
endfunction()

function(p2p_guest_test_command result name timeout)
	if(NOT timeout)
		set(timeout 300)
	endif()
	set(${result} --debug --check-log --drop-vram --timeout ${timeout} --out ${CMAKE_BINARY_DIR}/guest/${name}
		--simhcad ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/simhcad PARENT_SCOPE)
endfunction()

# ./run guest ends in time by itself, below "./run test --full" after four times as long; ctest's limit is for the case
# that it does not.
function(p2p_guest_test_properties name timeout)
	if(NOT timeout)
		set(timeout 300)
	endif()
	math(EXPR limit "4 * ${timeout} + 60")
	set_tests_properties(${name} PROPERTIES LABELS vm TIMEOUT ${limit})
endfunction()
