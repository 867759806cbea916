// What can be asked of replay_window.

package replay_pkg;

  typedef enum logic [1:0] {
    ReplayCheck,
    ReplayUpdate,
    ReplayClear
  } replay_op_e;

endpackage
