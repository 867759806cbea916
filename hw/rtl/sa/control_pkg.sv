// What software can ask of the engine, and what it is told. The numbers are those of hw/regs/esp_engine.rdl.

package control_pkg;

  import sa_pkg::sa_events_t;

  typedef enum logic [1:0] {
    // The staged SA takes the index over.
    CommandInstall,
    CommandRemove,
    // Counters are read.
    CommandRead,
    // The staged selector goes into the pool.
    CommandSelector
  } command_e;

  typedef enum logic [2:0] {
    AnswerDone,
    AnswerBadIndex,
    AnswerBadFields,
    AnswerInUse,
    AnswerAbsent,
    AnswerSpiExists,
    AnswerSpiFull
  } answer_e;

  // All that is told of an SA; a bit each.
  typedef struct packed {
    // An installation is over.
    logic       key_ready;
    sa_events_t sa;
  } engine_events_t;

endpackage
