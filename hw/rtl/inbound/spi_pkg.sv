// What spi_lookup holds, and what can be asked of it.

package spi_pkg;

  // What names an inbound SA (RFC 4301 §4.1): SPI and destination, IPv4 addresses in [31:0].
  typedef struct packed {
    logic         v6;
    logic [127:0] destination;
    logic [31:0]  spi;
  } spi_key_t;

  typedef enum logic {
    SpiInsert,
    SpiRemove
  } spi_op_e;

  typedef enum logic [1:0] {
    SpiDone,
    // Insert: there is one of this SPI and destination. Remove: there is none.
    SpiExists,
    SpiAbsent,
    // No place, although the table is not meant to be full before there are as many entries as SAs.
    SpiFull
  } spi_answer_e;

endpackage
