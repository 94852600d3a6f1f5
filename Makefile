# seg: make, make test, make check-all, make demo, make conformance, make bench, make install DESTDIR= PREFIX=, make clean.
# VARIANT=asan|cov builds beside the normal build, in build/$(VARIANT).  MPI=mpich takes MPICH, MPI=no leaves MPI out.

VERSION  = 0.1.0
PREFIX   = /usr/local
DESTDIR  =
VARIANT  =
MPI      = yes
B       := build$(if $(VARIANT),/$(VARIANT))

# What a bare Debian or Ubuntu needs; `make deps` installs what is missing.
DEPS      = pkg-config libtiff-dev zlib1g-dev libjansson-dev libdeflate-dev \
            $(MPI_DEPS_$(MPI))
MPI_DEPS_yes   = libopenmpi-dev openmpi-bin
MPI_DEPS_mpich = libmpich-dev mpich
TEST_DEPS = $(DEPS) libcmocka-dev mandoc python3 python3-numpy python3-tifffile iproute2 procps

PKGS   := libtiff-4 zlib jansson
PC     := pkg-config
HAVE    = $(shell $(PC) --exists $(1) 2>/dev/null && echo yes)

WARN   := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith \
          -Wwrite-strings -Wno-psabi
# -ffp-contract=off comes after the user's flags: same bits from every compiler and machine.  Without
# -fno-trapping-math gcc does not vectorise what has a comparison of floats in it; no value changes.
ALL_CFLAGS  = -std=c11 -O2 -g $(WARN) -D_GNU_SOURCE -DSEG_VERSION='"$(VERSION)"' -Iinclude -I. \
              $(VARIANT_$(VARIANT)) $(FOREIGN_CFLAGS) $(CFLAGS) -fno-fast-math -fno-trapping-math -fno-math-errno -ffp-contract=off -pthread
ALL_LDFLAGS = $(VARIANT_$(VARIANT)) $(LDFLAGS) -pthread
VARIANT_asan = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
VARIANT_cov  = --coverage -O0

FOREIGN_CFLAGS := $(shell $(PC) --cflags $(PKGS) 2>/dev/null)
LIBS           := $(shell $(PC) --libs $(PKGS) 2>/dev/null)
ifeq ($(call HAVE,libdeflate),yes)
FOREIGN_CFLAGS += -DHAVE_LIBDEFLATE $(shell $(PC) --cflags libdeflate)
LIBS           += $(shell $(PC) --libs libdeflate)
endif
LIBS += -lm
MPI_PC_yes   = ompi-c
MPI_PC_mpich = mpich
MPI_PC      := $(MPI_PC_$(MPI))
ifneq ($(MPI_PC),)
MPI_CFLAGS := $(shell $(PC) --cflags $(MPI_PC) 2>/dev/null)
MPI_LIBS   := $(shell $(PC) --libs $(MPI_PC) 2>/dev/null)
endif

# x.isa.c is compiled once for each instruction-set class and chosen at run time (seg/isa.h).
ISAS_x86_64  := avx2 avx512
ISAS_aarch64 := neon
ISAS         := plain $(ISAS_$(firstword $(subst -, ,$(shell $(CC) -dumpmachine))))
ISA_plain  :=
ISA_avx2   := -mavx2 -mfma -mtune=haswell
ISA_avx512 := -march=x86-64-v4 -mprefer-vector-width=512

PROGS   := $(patsubst cmd/%.c,%,$(wildcard cmd/seg-*.c))
LIBSRC  := $(filter-out lib/dist/mpi.c %.isa.c,$(wildcard lib/*/*.c))
ISASRC  := $(wildcard lib/*/*.isa.c)
LIBOBJ  := $(LIBSRC:%.c=$(B)/%.o) $(foreach i,$(ISAS),$(ISASRC:%.isa.c=$(B)/%.$(i).o)) \
           $(patsubst lib/loss/%,$(B)/lib/loss/%.o,$(wildcard lib/loss/recipes))
UNITS   := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/u-*.c))

# One short line for each step; V=1 shows the commands.
q = $(if $(V),,@echo '$(1) $(2)'; )

.SECONDARY:
.DELETE_ON_ERROR:
.PHONY: all deps test check check-all demo conformance bench install uninstall clean FORCE

ifneq ($(filter test check check-all demo,$(MAKECMDGOALS)),)
WANT := $(if $(filter demo,$(MAKECMDGOALS)),$(DEPS),$(TEST_DEPS))
endif
ifeq ($(shell command -v $(PC) >/dev/null && $(PC) --exists $(PKGS) $(MPI_PC) \
        $(if $(filter test check check-all,$(MAKECMDGOALS)),cmocka) 2>/dev/null && echo yes),yes)
READY := yes
endif

# Without the libraries there is nothing to build: install them, then start again so that
# pkg-config is asked anew.
ifneq ($(READY),yes)
ifneq ($(filter-out clean deps,$(or $(MAKECMDGOALS),all)),)
all test check check-all demo conformance bench: deps
	@$(MAKE) --no-print-directory $@
else
all:
endif
else
all: $(PROGS:%=$(B)/bin/%)
test check: deps all $(UNITS)
	@B=$(B) MPI=$(MPI) sh tests/run.sh $(T)
# What takes minutes: N, how often.
check-all: test
	@B=$(B) MPI=$(MPI) N=$(N) sh tests/run.sh $(notdir $(wildcard tests/slow-*.sh))
demo: deps all
	@bash pipelines/demo.sh
# The recipes against the frameworks they name; CASES of each.
conformance: deps all
	@sh tests/conformance.sh $(CASES)
# Side by side with others; ROUNDS of each.
bench: deps all $(B)/tests/bench-work
	@MPI=$(MPI) sh tests/bench.sh $(ROUNDS)
endif

deps:
	@sh tests/deps.sh $(or $(WANT),$(DEPS))

# A changed compiler or flag rebuilds everything.
$(B)/flags: FORCE
	@mkdir -p $(@D); echo '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(MPI_CFLAGS))' | cmp -s - $@ || \
	 echo '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(MPI_CFLAGS))' > $@
FORCE:

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call q,CC  ,$@)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
define isa_rule
$(B)/%.$(1).o: %.isa.c $(B)/flags
	@mkdir -p $$(@D)
	$$(call q,CC  ,$$@)$$(CC) $$(ALL_CFLAGS) $(ISA_$(1)) -O3 -DSEG_ISA=$(1) -DSEG_ISA_$(1) -MMD -MP -c -o $$@ $$<
endef
$(foreach i,$(ISAS),$(eval $(call isa_rule,$(i))))
$(B)/lib/dist/mpi.o: ALL_CFLAGS += $(MPI_CFLAGS)
# The recipes are one text file, carried in the library as it stands.
$(B)/lib/loss/recipes.o: lib/loss/recipes
	@mkdir -p $(@D)
	$(call q,DATA,$@)cd lib/loss && $(CC) -r -nostdlib -Wl,-z,noexecstack -Wl,-b,binary -o $(abspath $@) recipes

$(B)/libseg.a: $(LIBOBJ)
	$(call q,AR  ,$@)rm -f $@ && ar rcs $@ $^

$(B)/bin/seg-train: $(B)/cmd/seg-train.o $(B)/cmd/cmd.o $(if $(filter no,$(MPI)),,$(B)/lib/dist/mpi.o) $(B)/libseg.a
	@mkdir -p $(@D)
	$(call q,LINK,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) $(MPI_LIBS)
$(B)/bin/%: $(B)/cmd/%.o $(B)/cmd/cmd.o $(B)/libseg.a
	@mkdir -p $(@D)
	$(call q,LINK,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
$(B)/tests/bench-%: $(B)/tests/bench-%.o $(if $(filter no,$(MPI)),,$(B)/lib/dist/mpi.o) $(B)/libseg.a
	$(call q,LINK,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) $(MPI_LIBS)
$(B)/tests/%: $(B)/tests/%.o $(B)/libseg.a
	$(call q,LINK,$@)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/seg $(foreach s,1 5 7,$(DESTDIR)$(PREFIX)/share/man/man$(s))
	install $(PROGS:%=$(B)/bin/%) $(DESTDIR)$(PREFIX)/bin
	for f in man/*.[157]; do install -m 644 $$f $(DESTDIR)$(PREFIX)/share/man/man$${f##*.}; done
	install -m 644 pipelines/*.sbatch $(DESTDIR)$(PREFIX)/share/seg
uninstall:
	rm -rf $(DESTDIR)$(PREFIX)/share/seg
	rm -f $(PROGS:%=$(DESTDIR)$(PREFIX)/bin/%)
	for f in man/*.[157]; do rm -f $(DESTDIR)$(PREFIX)/share/man/man$${f##*.}/$${f##*/}; done
clean:
	rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)
