// ECP5's block RAM of 18 Kbit as Yosys's netlists of this RTL use it; Yosys has its ports, and no model of it.
//
// Lattice, ECP5 and ECP5-5G Memory Usage Guide (FPGA-TN-02204, TN1264 before that); Yosys's lattice/brams_16kd.txt and
// brams_map_16kd.v. Port A writes and port B reads, on one clock, without output registers and without initial contents; other
// uses are refused. So the memory begins with anything, as the RTL's does.
//
// It has 512 lines of 36 bits. An address is of bits: the line is ADx13 to ADx5, and those below choose a part of it. A narrow
// port of 1, 2 or 4 bits does not reach the ninth bit of a byte. In a wide one the lowest addresses enable bytes, and one of
// 36 bits has the lower half at A's pins and the upper one at B's.
//
// What is read in the cycle in which it is written is anything. Yosys takes it so between two ports, since WRITEMODE is about
// a port's own output only, and where the RTL wants the old word it puts registers around.

module DP16KD #(
  parameter int unsigned DATA_WIDTH_A = 18, DATA_WIDTH_B = 18,
  parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG",
  parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC",
  parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000",
  // What a port shows while it writes: in NORMAL nothing new. A does not read here, and B does not write.
  parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL",
  parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB",
  parameter logic [319:0] INITVAL_00 = '0, INITVAL_01 = '0, INITVAL_02 = '0, INITVAL_03 = '0,
  parameter logic [319:0] INITVAL_04 = '0, INITVAL_05 = '0, INITVAL_06 = '0, INITVAL_07 = '0,
  parameter logic [319:0] INITVAL_08 = '0, INITVAL_09 = '0, INITVAL_0A = '0, INITVAL_0B = '0,
  parameter logic [319:0] INITVAL_0C = '0, INITVAL_0D = '0, INITVAL_0E = '0, INITVAL_0F = '0,
  parameter logic [319:0] INITVAL_10 = '0, INITVAL_11 = '0, INITVAL_12 = '0, INITVAL_13 = '0,
  parameter logic [319:0] INITVAL_14 = '0, INITVAL_15 = '0, INITVAL_16 = '0, INITVAL_17 = '0,
  parameter logic [319:0] INITVAL_18 = '0, INITVAL_19 = '0, INITVAL_1A = '0, INITVAL_1B = '0,
  parameter logic [319:0] INITVAL_1C = '0, INITVAL_1D = '0, INITVAL_1E = '0, INITVAL_1F = '0,
  parameter logic [319:0] INITVAL_20 = '0, INITVAL_21 = '0, INITVAL_22 = '0, INITVAL_23 = '0,
  parameter logic [319:0] INITVAL_24 = '0, INITVAL_25 = '0, INITVAL_26 = '0, INITVAL_27 = '0,
  parameter logic [319:0] INITVAL_28 = '0, INITVAL_29 = '0, INITVAL_2A = '0, INITVAL_2B = '0,
  parameter logic [319:0] INITVAL_2C = '0, INITVAL_2D = '0, INITVAL_2E = '0, INITVAL_2F = '0,
  parameter logic [319:0] INITVAL_30 = '0, INITVAL_31 = '0, INITVAL_32 = '0, INITVAL_33 = '0,
  parameter logic [319:0] INITVAL_34 = '0, INITVAL_35 = '0, INITVAL_36 = '0, INITVAL_37 = '0,
  parameter logic [319:0] INITVAL_38 = '0, INITVAL_39 = '0, INITVAL_3A = '0, INITVAL_3B = '0,
  parameter logic [319:0] INITVAL_3C = '0, INITVAL_3D = '0, INITVAL_3E = '0, INITVAL_3F = '0,
  parameter GSR = "ENABLED"
) (
  input  logic CLKA, CEA, OCEA, WEA, RSTA, CSA2, CSA1, CSA0,
  input  logic ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
  input  logic DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2,
               DIA1, DIA0,
  output logic DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
               DOA1, DOA0,
  input  logic CLKB, CEB, OCEB, WEB, RSTB, CSB2, CSB1, CSB0,
  input  logic ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
  input  logic DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2,
               DIB1, DIB0,
  output logic DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
               DOB1, DOB0
);

  localparam int unsigned Lines = 512;
  typedef logic [35:0] line_t;

  if (!(DATA_WIDTH_A inside {1, 2, 4, 9, 18, 36}) || !(DATA_WIDTH_B inside {1, 2, 4, 9, 18, 36})) begin : gen_bad_width
    $error("a port has 1, 2, 4, 9, 18 or 36 bits");
  end
  if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG") begin : gen_registers
    $error("output registers are not modelled");
  end
  if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000") begin : gen_decoded
    $error("a port that is selected by anything but zeros is not modelled");
  end
  if (CLKAMUX != "CLKA" || CLKBMUX != "CLKB") begin : gen_falling
    $error("falling edges are not modelled");
  end
  if ((|{
      INITVAL_00, INITVAL_01, INITVAL_02, INITVAL_03, INITVAL_04, INITVAL_05, INITVAL_06, INITVAL_07, INITVAL_08,
      INITVAL_09, INITVAL_0A, INITVAL_0B, INITVAL_0C, INITVAL_0D, INITVAL_0E, INITVAL_0F, INITVAL_10, INITVAL_11,
      INITVAL_12, INITVAL_13, INITVAL_14, INITVAL_15, INITVAL_16, INITVAL_17, INITVAL_18, INITVAL_19, INITVAL_1A,
      INITVAL_1B, INITVAL_1C, INITVAL_1D, INITVAL_1E, INITVAL_1F, INITVAL_20, INITVAL_21, INITVAL_22, INITVAL_23,
      INITVAL_24, INITVAL_25, INITVAL_26, INITVAL_27, INITVAL_28, INITVAL_29, INITVAL_2A, INITVAL_2B, INITVAL_2C,
      INITVAL_2D, INITVAL_2E, INITVAL_2F, INITVAL_30, INITVAL_31, INITVAL_32, INITVAL_33, INITVAL_34, INITVAL_35,
      INITVAL_36, INITVAL_37, INITVAL_38, INITVAL_39, INITVAL_3A, INITVAL_3B, INITVAL_3C, INITVAL_3D, INITVAL_3E,
      INITVAL_3F
      }) != 1'b0) begin : gen_contents
    $error("initial contents are not modelled");
  end

  // The lowest bit of a port's word in its line.
  function automatic int unsigned place(input int unsigned width, input logic [4:0] addr);
    unique case (width)
      1: return 9 * 32'(addr[4:3]) + 32'(addr[2:0]);
      2: return 9 * 32'(addr[4:3]) + 2 * 32'(addr[2:1]);
      4: return 9 * 32'(addr[4:3]) + 4 * 32'(addr[2]);
      9: return 9 * 32'(addr[4:3]);
      18: return 18 * 32'(addr[4]);
      default: return 0;
    endcase
  endfunction

  line_t mem [Lines];

  logic [13:0] write_addr, read_addr;
  line_t write_word, write_mask, read_word;
  logic collides;

  assign write_addr = {
    ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0
  };
  assign read_addr = {
    ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0
  };
  assign write_word = {
    DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
    DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0
  };

  // The bits of the port's word that are written.
  always_comb begin
    write_mask = line_t'((37'd1 << DATA_WIDTH_A) - 1'b1);
    for (int i = 0; i < 4; i++) begin
      if (DATA_WIDTH_A >= 18 && !write_addr[i]) write_mask[9*i+:9] = '0;
    end
    if (!CEA || !WEA) write_mask = '0;
    write_mask = write_mask << place(DATA_WIDTH_A, write_addr[4:0]);
  end

  assign collides = read_addr[13:5] == write_addr[13:5];

  always_ff @(posedge CLKA) begin
    mem[write_addr[13:5]] <= (mem[write_addr[13:5]] & ~write_mask) |
        ((write_word << place(DATA_WIDTH_A, write_addr[4:0])) & write_mask);
    if (CEB) begin
      read_word <= ((mem[read_addr[13:5]] & ~(collides ? write_mask : '0)) |
          (line_t'({$urandom, $urandom}) & (collides ? write_mask : '0))) >> place(DATA_WIDTH_B, read_addr[4:0]);
    end
  end

  // Pins that are not of the port's width have anything.
  assign {
    DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
  } = DATA_WIDTH_B == 36 ? read_word[35:18] : read_word[17:0];
  assign {
    DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0
  } = read_word[17:0];

  always_ff @(posedge CLKA) begin
    one_clock : assert (CLKB);
    selected : assert ({CSA2, CSA1, CSA0, CSB2, CSB1, CSB0} == '0);
    never_reset : assert (!RSTA && !RSTB);
    b_does_not_write : assert (!WEB);
    b_shows_what_it_reads : assert (OCEB);
  end

endmodule
